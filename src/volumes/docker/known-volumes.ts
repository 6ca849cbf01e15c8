import { join } from 'node:path';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files, Host } from '../../host/host.ts';
import { parseVolumeId, type VolumeId } from '../../ids.ts';
import type { Logger } from '../../observe/log.ts';
import { knownVolumesDirectory } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import type { Pools } from '../pool/pools.ts';

/**
 * The set of volumes that Docker knows. Each volume has a file in a directory outside all pools: the name of the file is the
 * volume's id, and its content is the uuid of the volume's pool. Docker interprets every error about a volume as a missing
 * volume, then forgets the volume, and gives the next container an empty local volume of that name. While a pool is not served,
 * these files distinguish its volumes from volumes that never existed. Several drivers may share the directory, so each forgets
 * volumes of its own pools only.
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

  /** Errors are logged and not thrown, because the volume already exists and is only less protected without its file. */
  async remember(id: VolumeId, poolUuid: string): Promise<void> {
    try {
      const path = join(this.#directory, id);
      if ((await this.#poolOf(id)) === poolUuid) return;
      await this.#files.makeDirectory(this.#directory);
      await this.#files.replaceFile(path, `${poolUuid}\n`, { durable: false });
    } catch (error) {
      this.#log.warn(
        { volumeId: id, problem: messageOf(error) },
        'the file of a volume that Docker knows could not be written',
      );
    }
  }

  async forget(id: VolumeId): Promise<void> {
    await this.#files.removeFile(join(this.#directory, id));
  }

  async has(id: VolumeId): Promise<boolean> {
    return this.#files.exists(join(this.#directory, id));
  }

  /** Returns the paths of the files whose pool is none of those that `knownPools` returns. */
  async ofOtherPools(knownPools: () => Promise<ReadonlySet<string>>): Promise<readonly string[]> {
    const ids = await this.#ids();
    // Read afterwards: a pool is known before its first volume is.
    const uuids = await knownPools();
    const paths: string[] = [];
    for (const id of ids) {
      const uuid = await this.#poolOf(id);
      // A file of an earlier version does not tell.
      if (uuid === undefined || uuid === '' || uuids.has(uuid)) continue;
      paths.push(join(this.#directory, id));
    }
    return paths;
  }

  /** Returns the ids of the known volumes of a pool. */
  async ofPool(uuid: string): Promise<readonly VolumeId[]> {
    const ids: VolumeId[] = [];
    for (const id of await this.#ids()) if ((await this.#poolOf(id)) === uuid) ids.push(id);
    return ids;
  }

  /**
   * Forgets deleted volumes of the pools that are served. A file written by an earlier version does not contain the pool's uuid;
   * the uuid is added if one of these pools has the volume.
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

  /** Returns the uuid of the volume's pool; '' for a file of an earlier version, undefined if there is no file. */
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
