import { join } from 'node:path';
import { ImageInUseError } from '../../host/errors.ts';
import type { Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import { withReason } from '../engine/failures.ts';
import { imageFile } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';

/** `<opening>.<uuid>.<id>`, as new-entry.ts names what it makes. */
const entryName = /^\d+\.[0-9a-f-]{36}\.(.+)$/;

/** How often is looked whether the program has ended. */
const lookEveryMs = 1_000;

interface InterruptedCreate {
  readonly pool: Pool;
  readonly path: string;
  readonly timer: NodeJS.Timeout;
  removal: Promise<void> | undefined;
}

/**
 * Half-made volumes in `tmp/` whose image a program of a driver that has ended still works on (mkfs, tune2fs, xfs_db). A start
 * does not remove them below the program; until it has ended the volume can neither be created again nor deleted. Then they go.
 */
export class InterruptedCreates {
  readonly #byId = new Map<string, InterruptedCreate>();
  readonly #deps: { readonly host: Host; readonly log: Logger };

  constructor(deps: { host: Host; log: Logger }) {
    this.#deps = deps;
  }

  /** At start, for one entry of `tmp/`: whether it stays. */
  async keep(pool: Pool, entry: string): Promise<boolean> {
    const path = pool.pathOf('tmp', entry);
    try {
      await this.#deps.host.files.requireNoProgram(join(path, imageFile));
      return false;
    } catch (error) {
      if (!(error instanceof ImageInUseError)) throw error;
      const id = entryName.exec(entry)?.[1];
      if (id !== undefined) this.#add(id, { pool, path });
      this.#deps.log.warn(
        { pool: pool.name, entry, problem: error.message },
        'a half-made volume stays until the program that works on it has ended',
      );
      return true;
    }
  }

  /** Throws `busy` while the program runs; afterwards removes what it leaves. */
  async settle(id: string): Promise<void> {
    const found = this.#byId.get(id);
    if (found === undefined) return;
    found.removal ??= this.#remove(id, found).finally(() => {
      found.removal = undefined;
    });
    await found.removal;
  }

  stop(): void {
    for (const { timer } of this.#byId.values()) clearInterval(timer);
  }

  #add(id: string, found: { pool: Pool; path: string }): void {
    clearInterval(this.#byId.get(id)?.timer);
    const timer = setInterval(() => {
      // Refused while the program runs.
      this.settle(id).catch(() => undefined);
    }, lookEveryMs);
    timer.unref();
    this.#byId.set(id, { ...found, timer, removal: undefined });
  }

  async #remove(id: string, { pool, path, timer }: InterruptedCreate): Promise<void> {
    await withReason(`volume '${id}'`, pool, async () => {
      await this.#deps.host.files.requireNoProgram(join(path, imageFile));
      await this.#deps.host.files.removeTree(path);
    });
    clearInterval(timer);
    this.#byId.delete(id);
  }
}
