import { join } from 'node:path';
import * as v from 'valibot';
import type { RecordFiles } from './record-files.ts';
import { readRecord, writeRecord } from './records.ts';

const seenPools = v.object({
  schemaVersion: v.literal(1),
  /** Pool directory → uuid of the pool that was seen there. */
  pools: v.record(v.string(), v.string()),
});

/**
 * What this node remembers outside all pools: which pool it has seen at which path, so that an empty directory where a disk
 * should be mounted is never taken for a new pool (design: a pool knows itself).
 */
export class NodeState {
  readonly #files: RecordFiles;
  readonly #path: string;
  #pools: Readonly<Record<string, string>>;
  /** The last write: pools are opened side by side, and a write replaces the whole file. */
  #written: Promise<void> = Promise.resolve();

  private constructor(files: RecordFiles, path: string, pools: Readonly<Record<string, string>>) {
    this.#files = files;
    this.#path = path;
    this.#pools = pools;
  }

  /** Opens the state folder, made when absent. Throws `internal` when its file does not decode. */
  static async open(files: RecordFiles, directory: string): Promise<NodeState> {
    await files.makeDirectory(directory);
    const path = join(directory, 'pools.json');
    const isThere = await files.exists(path);
    const pools = isThere ? (await readRecord(files, seenPools, path)).pools : {};
    return new NodeState(files, path, pools);
  }

  /** The uuid of the pool seen at that directory, or undefined. */
  seenAt(directory: string): string | undefined {
    return this.#pools[directory];
  }

  /** Every directory where a pool was seen. */
  get directories(): readonly string[] {
    return Object.keys(this.#pools);
  }

  async remember(directory: string, uuid: string): Promise<void> {
    const write = this.#written.then(async () => this.#remember(directory, uuid));
    this.#written = write.catch(() => undefined);
    return write;
  }

  async #remember(directory: string, uuid: string): Promise<void> {
    if (this.#pools[directory] === uuid) return;
    const pools = { ...this.#pools, [directory]: uuid };
    await writeRecord(this.#files, this.#path, {
      schema: seenPools,
      value: { schemaVersion: 1, pools },
    });
    this.#pools = pools;
  }
}
