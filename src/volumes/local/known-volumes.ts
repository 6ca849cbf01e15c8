import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Logger } from '../../observe/log.ts';
import { exists } from '../exists.ts';

/**
 * Ids of the volumes that Docker was told of, each an empty file of a directory outside all pools. Docker takes every error
 * about a volume for its absence, forgets it, and gives the next container an empty local volume of that name. So while a
 * pool is away, this tells what is there from what never was.
 */
export class KnownVolumes {
  readonly #directory: string;
  readonly #log: Logger;

  constructor(directory: string, log: Logger) {
    this.#directory = directory;
    this.#log = log;
  }

  /** Never fails what was done already: without the note the volume is only less guarded. */
  async remember(id: string): Promise<void> {
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      await writeFile(join(this.#directory, id), '');
    } catch (error) {
      this.#log.warn({ volumeId: id, problem: messageOf(error) }, 'a volume cannot be remembered');
    }
  }

  async forget(id: string): Promise<void> {
    await rm(join(this.#directory, id), { force: true });
  }

  async has(id: string): Promise<boolean> {
    return exists(join(this.#directory, id));
  }

  /** Forgets what others deleted. Only for when every volume of this node can be seen. */
  async keepOnly(isThere: (id: string) => boolean): Promise<void> {
    const ids = await readdir(this.#directory).catch((error: unknown) => {
      if (hasErrno(error, 'ENOENT')) return [];
      throw error;
    });
    for (const id of ids) {
      if (!isThere(id)) await this.forget(id);
    }
  }
}
