import { join } from 'node:path';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files, Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import type { Pool } from '../pool/pool.ts';
import type { Pools } from '../pool/pools.ts';

/**
 * Ids of the volumes that Docker was told of, each a file of a directory outside all pools, with the uuid of the volume's pool.
 * Docker takes every error about a volume for its absence, forgets it, and gives the next container an empty local volume of
 * that name. So while a pool is not served, this tells what is there from what never was. Several drivers may share the
 * directory: each forgets only volumes of its own pools.
 */
export class KnownVolumes {
  readonly #directory: string;
  readonly #files: Files;
  readonly #log: Logger;

  constructor(directory: string, deps: { readonly host: Host; readonly log: Logger }) {
    this.#directory = directory;
    this.#files = deps.host.files;
    this.#log = deps.log;
  }

  /** Never fails what was done already: without the note the volume is only less guarded. */
  async remember(id: string, poolUuid: string): Promise<void> {
    try {
      const path = join(this.#directory, id);
      if ((await this.#poolOf(id)) === poolUuid) return;
      await this.#files.makeDirectory(this.#directory);
      await this.#files.replaceFile(path, `${poolUuid}\n`, { durable: false });
    } catch (error) {
      this.#log.warn({ volumeId: id, problem: messageOf(error) }, 'a volume cannot be remembered');
    }
  }

  async forget(id: string): Promise<void> {
    await this.#files.removeFile(join(this.#directory, id));
  }

  async has(id: string): Promise<boolean> {
    return this.#files.exists(join(this.#directory, id));
  }

  /** Ids of the volumes known of a pool. */
  async ofPool(uuid: string): Promise<readonly string[]> {
    const ids: string[] = [];
    for (const id of await this.#ids()) if ((await this.#poolOf(id)) === uuid) ids.push(id);
    return ids;
  }

  /**
   * Forgets what was deleted of the pools that are served. A note of an earlier version does not say which pool it is of: it
   * gets that when one of these pools has its volume, and stays as it is otherwise.
   */
  async forgetDeleted({ served }: Pools): Promise<void> {
    for (const id of await this.#ids()) {
      const uuid = await this.#poolOf(id);
      const pool = served.find(({ marker, volumes }) =>
        uuid === '' ? volumes.get(id) !== undefined : marker?.uuid === uuid,
      );
      if (pool === undefined) continue;
      if (uuid === '') await this.remember(id, pool.marker?.uuid ?? '');
      else if (!holds(pool, id)) await this.forget(id);
    }
  }

  /** '' for a note of an earlier version; undefined without one. */
  async #poolOf(id: string): Promise<string | undefined> {
    try {
      return (await this.#files.readText(join(this.#directory, id))).trim();
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  async #ids(): Promise<readonly string[]> {
    const names = await this.#files.list(this.#directory).catch((error: unknown) => {
      if (hasErrno(error, 'ENOENT')) return [];
      throw error;
    });
    // What a replacement that was cut short has left is no note.
    return names.filter((name) => !name.endsWith('.new'));
  }
}

function holds({ volumes }: Pool, id: string): boolean {
  return volumes.get(id) !== undefined || volumes.aside.has(id);
}
