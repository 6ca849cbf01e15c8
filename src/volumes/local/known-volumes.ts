import { join } from 'node:path';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files, Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';

/**
 * Ids of the volumes that Docker was told of, each an empty file of a directory outside all pools. Docker takes every error
 * about a volume for its absence, forgets it, and gives the next container an empty local volume of that name. So while a
 * pool is away, this tells what is there from what never was.
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
  async remember(id: string): Promise<void> {
    try {
      await this.#files.makeDirectory(this.#directory);
      await this.#files.writeNew(join(this.#directory, id), '');
    } catch (error) {
      if (hasErrno(error, 'EEXIST')) return;
      this.#log.warn({ volumeId: id, problem: messageOf(error) }, 'a volume cannot be remembered');
    }
  }

  async forget(id: string): Promise<void> {
    await this.#files.removeFile(join(this.#directory, id));
  }

  async has(id: string): Promise<boolean> {
    return this.#files.exists(join(this.#directory, id));
  }

  /** Forgets what others deleted. Only for when every volume of this node can be seen. */
  async keepOnly(isThere: (id: string) => boolean): Promise<void> {
    const ids = await this.#files.list(this.#directory).catch((error: unknown) => {
      if (hasErrno(error, 'ENOENT')) return [];
      throw error;
    });
    for (const id of ids) {
      if (!isThere(id)) await this.forget(id);
    }
  }
}
