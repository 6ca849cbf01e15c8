import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import * as v from 'valibot';
import { VolumeError } from '../errors.ts';
import { looseRecord } from './decode.ts';
import type { SharedFiles } from './record-files.ts';
import { readRecord, writeRecord } from './records.ts';

const seenPools = looseRecord({
  schemaVersion: v.literal(1),
  /** Pool directory → uuid of the pool that was seen there. */
  pools: v.record(v.string(), v.string()),
});
type SeenPools = Readonly<v.InferOutput<typeof seenPools>>;

/** A change takes some milliseconds, an fsync of a busy disk some more. */
const lockBoundMs = 10_000;
const lockPauseMs = 10;

/**
 * What this node remembers outside all pools: which pool it has seen at which path, so that an empty directory where a disk
 * should be mounted is never taken for a new pool (design: a pool knows itself). Drivers may share the folder, each with pools
 * of its own: the file is read at each question, and changed under a lock.
 */
export class NodeState {
  readonly #files: SharedFiles;
  readonly #path: string;
  /** The last change of this process: one waits for the other without polling. */
  #changed: Promise<void> = Promise.resolve();

  private constructor(files: SharedFiles, path: string) {
    this.#files = files;
    this.#path = path;
  }

  /** Opens the state folder, made when absent. Throws `internal` when its file does not decode. */
  static async open(files: SharedFiles, directory: string): Promise<NodeState> {
    await files.makeDirectory(directory);
    const state = new NodeState(files, join(directory, 'pools.json'));
    await state.#read();
    return state;
  }

  /** The uuid of the pool seen at that directory, or undefined. */
  async seenAt(directory: string): Promise<string | undefined> {
    return (await this.#read()).pools[directory];
  }

  /** Every directory where a pool was seen. */
  async directories(): Promise<readonly string[]> {
    return Object.keys((await this.#read()).pools);
  }

  async remember(directory: string, uuid: string): Promise<void> {
    if ((await this.seenAt(directory)) === uuid) return;
    await this.#change((pools) => ({ ...pools, [directory]: uuid }));
  }

  /** Drops what is remembered of that directory, if it is that pool. */
  async forget(directory: string, uuid: string): Promise<void> {
    await this.#change((pools) =>
      Object.fromEntries(
        Object.entries(pools).filter(([path, seen]) => path !== directory || seen !== uuid),
      ),
    );
  }

  async #read(): Promise<SeenPools> {
    if (!(await this.#files.exists(this.#path))) return { schemaVersion: 1, pools: {} };
    return readRecord(this.#files, seenPools, this.#path);
  }

  #change(change: (pools: SeenPools['pools']) => SeenPools['pools']): Promise<void> {
    const next = this.#changed.then(async () => {
      const lock = await this.#lock();
      try {
        const before = await this.#read();
        const value = { ...before, pools: change(before.pools) };
        await writeRecord(this.#files, this.#path, { schema: seenPools, value });
      } finally {
        await lock.release();
      }
    });
    this.#changed = next.catch(() => undefined);
    return next;
  }

  async #lock(): Promise<{ release(): Promise<void> }> {
    const path = `${this.#path}.lock`;
    const giveUpAt = performance.now() + lockBoundMs;
    for (;;) {
      try {
        return await this.#files.lock(path);
      } catch (error) {
        if (!(error instanceof Error && 'errno' in error && error.errno === 'EAGAIN')) throw error;
        if (performance.now() > giveUpAt) {
          const message = `another loopcsi process holds ${path} for more than ${lockBoundMs / 1000} s; look at that process`;
          throw new VolumeError('unavailable', message, { cause: error });
        }
        await delay(lockPauseMs);
      }
    }
  }
}
