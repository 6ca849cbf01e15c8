import { readFile, stat } from 'node:fs/promises';
import { callPeriodically } from '../../async.ts';
import { messageOf, VolumeError } from '../../errors.ts';
import { lockFile } from '../../host/files/file-lock.ts';
import { replaceFile } from '../../host/files/replace-file.ts';
import { driverLane } from '../../host/lane.ts';
import type { Logger } from '../../observe/log.ts';
import { changeSharedFile } from '../../shared-file.ts';
import type { NodeStore } from './node-store.ts';

interface FileOptions {
  readonly path: string;
  readonly log: Logger;
  /** How often the file is read, for changes by another controller or an administrator. */
  readonly everyMs?: number;
  /** For tests: called after each step of a write. */
  readonly reached?: NonNullable<Parameters<typeof replaceFile>[2]>['reached'];
}

/**
 * Records in a file, which is replaced atomically. Its directory must exist. Several controllers may use one file: each reads and
 * replaces it under a lock, which needs a filesystem with flock(2).
 */
export class FileStore implements NodeStore {
  readonly #options: FileOptions;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(options: FileOptions) {
    this.#options = options;
  }

  /** Throws `invalid` if the file cannot be read, or its directory does not exist. */
  static async open(options: FileOptions): Promise<FileStore> {
    const { path } = options;
    const directory = path.slice(0, path.lastIndexOf('/')) || '/';
    try {
      if (!(await stat(directory)).isDirectory()) throw new Error(`${directory} is no directory`);
      await readText(path);
    } catch (error) {
      throw new VolumeError('invalid', `--node-records: ${messageOf(error)}; create ${directory}`, {
        cause: error,
      });
    }
    return new FileStore(options);
  }

  get description(): string {
    return this.#options.path;
  }

  follow(onText: (text: string | undefined) => void): { close(): void } {
    const { path, log, everyMs = 2_000 } = this.#options;
    let last: { readonly text: string | undefined } | undefined;
    let isFailing = false;
    const look = async (): Promise<number> => {
      try {
        // Never during an own write: what was read before it would be told after it.
        await this.#inTurn(async () => {
          const text = await readText(path);
          isFailing = false;
          if (last === undefined || last.text !== text) onText(text);
          last = { text };
        });
      } catch (error) {
        if (!isFailing) log.error({ path, problem: messageOf(error) }, 'the file was not read');
        isFailing = true;
      }
      return everyMs;
    };
    return { close: callPeriodically(look, 0) };
  }

  async update(change: (text: string | undefined) => string): Promise<string> {
    const { path, reached } = this.#options;
    const lock = async (lockPath: string) => lockFile(driverLane, lockPath);
    return this.#inTurn(() =>
      changeSharedFile(path, lock, async () => {
        const current = await readText(path);
        const text = change(current);
        if (text === current) return text;
        await replaceFile(path, text, reached === undefined ? {} : { reached });
        return text;
      }),
    );
  }

  /** One after the other, so that each sees what the one before has written. */
  async #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const work = this.#queue.then(step);
    this.#queue = work.catch(() => undefined);
    return work;
  }
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
