import { join } from 'node:path';
import { callPeriodically } from '../../async.ts';
import { ImageInUseError } from '../../host/errors.ts';
import type { Host } from '../../host/host.ts';
import { parseVolumeId, type VolumeId } from '../../ids.ts';
import type { Logger } from '../../observe/log.ts';
import { withReason } from '../engine/failures.ts';
import { inLane } from '../engine/lanes.ts';
import { imageFile, parseTemporaryName } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';

/** Interval at which the driver checks whether the program has ended. */
const checkIntervalMs = 1_000;

interface InterruptedCreate {
  readonly pool: Pool;
  readonly path: string;
  readonly endChecks: () => void;
  removal: Promise<void> | undefined;
}

/**
 * Unfinished volumes in `tmp/` whose image is still in use by a program (mkfs, tune2fs, xfs_db) of an earlier driver process. They are
 * removed when the program has ended; until then the volume can neither be created again nor deleted.
 */
export class InterruptedCreates {
  readonly #byId = new Map<VolumeId, InterruptedCreate>();
  readonly #deps: { readonly host: Host; readonly log: Logger };

  constructor(deps: { host: Host; log: Logger }) {
    this.#deps = deps;
  }

  /** Called by the recovery for each entry of `tmp/`. Returns whether the entry is kept. */
  async keep(host: Host, pool: Pool, entry: string): Promise<boolean> {
    const path = join(pool.directoryOf('tmp'), entry);
    try {
      await host.files.requireNoProgram(join(path, imageFile));
      return false;
    } catch (error) {
      if (!(error instanceof ImageInUseError)) throw error;
      const id = parseVolumeId(parseTemporaryName(entry)?.id ?? '');
      if (id !== undefined) this.#add(id, { pool, path });
      this.#deps.log.warn(
        { pool: pool.name, entry, problem: error.message },
        'an unfinished volume was kept because a program still works on it',
      );
      return true;
    }
  }

  /** Whether a program still works on the unfinished volume in that directory. */
  isKept(path: string): boolean {
    return [...this.#byId.values()].some((one) => one.path === path);
  }

  /** Removes the unfinished volume of that id, if there is one. Throws `busy` while the program runs. */
  async remove(id: VolumeId): Promise<void> {
    const found = this.#byId.get(id);
    if (found === undefined) return;
    found.removal ??= this.#remove(id, found).finally(() => {
      found.removal = undefined;
    });
    await found.removal;
  }

  stop(): void {
    for (const { endChecks } of this.#byId.values()) endChecks();
  }

  #add(id: VolumeId, found: { pool: Pool; path: string }): void {
    this.#byId.get(id)?.endChecks();
    const removeIfUnused = async (): Promise<number> => {
      // Throws `busy` while the program runs.
      await this.remove(id).catch(() => undefined);
      return checkIntervalMs;
    };
    const endChecks = callPeriodically(removeIfUnused, checkIntervalMs);
    this.#byId.set(id, { ...found, endChecks, removal: undefined });
  }

  async #remove(id: VolumeId, { pool, path, endChecks }: InterruptedCreate): Promise<void> {
    const deps = inLane(this.#deps, { kind: 'recover', id, pool: pool.name });
    await withReason(deps, { subject: `volume '${id}'`, disk: pool }, async ({ host }) => {
      await host.files.requireNoProgram(join(path, imageFile));
      await host.files.removeTree(path);
    });
    endChecks();
    this.#byId.delete(id);
  }
}
