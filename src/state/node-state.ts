import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
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
  readonly #path: string;
  #pools: Readonly<Record<string, string>>;
  /** The last write: pools are opened side by side, and a write replaces the whole file. */
  #written: Promise<void> = Promise.resolve();

  private constructor(path: string, pools: Readonly<Record<string, string>>) {
    this.#path = path;
    this.#pools = pools;
  }

  /** Opens the state folder, made when absent. Throws `internal` when its file does not decode. */
  static async open(directory: string): Promise<NodeState> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const path = join(directory, 'pools.json');
    try {
      return new NodeState(path, (await readRecord(seenPools, path)).pools);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
        return new NodeState(path, {});
      }
      throw error;
    }
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
    await writeRecord(seenPools, this.#path, { schemaVersion: 1, pools });
    this.#pools = pools;
  }
}
