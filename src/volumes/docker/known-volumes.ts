import { join } from 'node:path';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files, Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import { parseVolumeId, type VolumeId } from '../ids.ts';
import { knownVolumesDirectory } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import type { Pools } from '../pool/pools.ts';

/**
 * Ids of the volumes that Docker knows. Each is a file in a directory outside all pools, with the uuid of the volume's pool. Docker
 * takes every error about a volume for its absence, forgets the volume, and gives the next container an empty local volume of that
 * name. So while a pool is not served, these files distinguish its volumes from volumes that never existed. Several drivers may
 * share the directory: each forgets volumes of its own pools only.
 */
export class KnownVolumes {
  readonly #directory: string;
  readonly #files: Files;
  readonly #log: Logger;

  constructor(stateDir: string, deps: { readonly host: Host; readonly log: Logger }) {
    this.#directory = join(stateDir, knownVolumesDirectory);
    this.#files = deps.host.files;
    this.#log = deps.log;
  }

  /** Logs a failure instead of throwing it: the volume exists already, and is only less protected without its file. */
  async remember(id: VolumeId, poolUuid: string): Promise<void> {
    try {
      const path = join(this.#directory, id);
      if ((await this.#poolOf(id)) === poolUuid) return;
      await this.#files.makeDirectory(this.#directory);
      await this.#files.replaceFile(path, `${poolUuid}\n`, { durable: false });
    } catch (error) {
      this.#log.warn(
        { volumeId: id, problem: messageOf(error) },
        'a volume could not be remembered',
      );
    }
  }

  async forget(id: VolumeId): Promise<void> {
    await this.#files.removeFile(join(this.#directory, id));
  }

  async has(id: VolumeId): Promise<boolean> {
    return this.#files.exists(join(this.#directory, id));
  }

  /** Ids of the known volumes of a pool. */
  async ofPool(uuid: string): Promise<readonly VolumeId[]> {
    const ids: VolumeId[] = [];
    for (const id of await this.#ids()) if ((await this.#poolOf(id)) === uuid) ids.push(id);
    return ids;
  }

  /**
   * Forgets deleted volumes of the pools that are served. A file of an earlier version does not name its pool: it gets the uuid if
   * one of these pools has the volume, and is left as it is otherwise.
   */
  async forgetDeleted({ served }: Pools): Promise<void> {
    for (const id of await this.#ids()) {
      const uuid = await this.#poolOf(id);
      const pool = served.find(({ marker, volumes }) =>
        uuid === '' ? volumes.get(id) !== undefined : marker?.uuid === uuid,
      );
      if (pool === undefined) continue;
      if (uuid === '') await this.remember(id, pool.marker?.uuid ?? '');
      else if (!hasEntry(pool, id)) await this.forget(id);
    }
  }

  /** The pool's uuid; '' in a file of an earlier version, undefined without a file. */
  async #poolOf(id: VolumeId): Promise<string | undefined> {
    try {
      return (await this.#files.readText(join(this.#directory, id))).trim();
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  async #ids(): Promise<readonly VolumeId[]> {
    const names = await this.#files.list(this.#directory).catch((error: unknown) => {
      if (hasErrno(error, 'ENOENT')) return [];
      throw error;
    });
    // An interrupted replacement leaves a file `ID.new`.
    return names.flatMap((name) => parseVolumeId(name) ?? []);
  }
}

function hasEntry({ volumes }: Pool, id: VolumeId): boolean {
  return volumes.get(id) !== undefined || volumes.aside.has(id);
}
