import { join } from 'node:path';
import * as v from 'valibot';
import { changeSharedFile } from '../shared-file.ts';
import { looseRecord } from './decode.ts';
import type { SharedFileCalls } from './file-calls.ts';
import { readRecord, writeRecord } from './records.ts';

const seenPools = looseRecord({
  schemaVersion: v.literal(1),
  /** The uuids of the known pools, by directory. */
  pools: v.record(v.string(), v.string()),
});
type SeenPools = Readonly<v.InferOutput<typeof seenPools>>;

/** The name of the file in the state directory. */
export const knownPoolsFile = 'pools.json';

/**
 * The pools that this node has seen, by directory, stored outside all pools. This is how the driver never mistakes an
 * empty directory whose disk is not mounted for a new pool. Several drivers with different pools may share the state
 * directory, so the file is read for every query and changed under a lock.
 */
export class KnownPools {
  readonly #files: SharedFileCalls;
  readonly #path: string;
  /** The last change by this process. The next change waits for it instead of polling for the lock. */
  #lastChange: Promise<void> = Promise.resolve();

  private constructor(files: SharedFileCalls, path: string) {
    this.#files = files;
    this.#path = path;
  }

  /** Opens the state directory, or creates it if it is missing. Throws `internal` if its file cannot be decoded. */
  static async open(files: SharedFileCalls, directory: string): Promise<KnownPools> {
    await files.makeDirectory(directory);
    const pools = new KnownPools(files, join(directory, knownPoolsFile));
    await pools.#read();
    return pools;
  }

  /** Returns the uuid of the pool that was last seen at the directory; undefined if none was. */
  async seenAt(directory: string): Promise<string | undefined> {
    return (await this.#read()).pools[directory];
  }

  /** Returns all directories at which a pool was seen. */
  async directories(): Promise<readonly string[]> {
    return Object.keys((await this.#read()).pools);
  }

  /** Returns the uuids of all pools that were seen and not forgotten. */
  async uuids(): Promise<ReadonlySet<string>> {
    return new Set(Object.values((await this.#read()).pools));
  }

  async remember(directory: string, uuid: string): Promise<void> {
    if ((await this.seenAt(directory)) === uuid) return;
    await this.#change((pools) => ({ ...pools, [directory]: uuid }));
  }

  /** Forgets the directory if the pool with this uuid was last seen there. */
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
    const next = this.#lastChange.then(() =>
      changeSharedFile(
        this.#path,
        (path) => this.#files.lock(path),
        async () => {
          const current = await this.#read();
          const value = { ...current, pools: change(current.pools) };
          await writeRecord(this.#files, this.#path, { schema: seenPools, value });
        },
      ),
    );
    this.#lastChange = next.catch(() => undefined);
    return next;
  }
}
