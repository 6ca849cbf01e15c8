import { readdirSync, statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Tracks which files and directories are durable: it records the modification time of a file at each fsync of this process.
 * A power cut may lose files that were changed later or never synced.
 */
export class DiskState {
  /** Modification time at the last sync, by inode. */
  readonly #synced = new Map<bigint, bigint>();
  readonly #restore: () => void;

  private constructor(prototype: SyncMethods) {
    const real = { sync: prototype.sync, datasync: prototype.datasync };
    const recordSync = (handle: FileHandle): void => {
      const { ino, mtimeNs } = statSync(`/proc/self/fd/${handle.fd}`, { bigint: true });
      this.#synced.set(ino, mtimeNs);
    };
    for (const name of ['sync', 'datasync'] as const) {
      prototype[name] = async function (this: FileHandle) {
        // Before the call: a write that comes while the call runs may not be covered by it.
        recordSync(this);
        await real[name].call(this);
      };
    }
    this.#restore = () => Object.assign(prototype, real);
  }

  /** Watches every file handle of this process from now on. */
  static async watch(): Promise<DiskState> {
    const handle = await open('/proc/self/status');
    try {
      // All file handles have this prototype; Node does not export their class.
      return new DiskState(Object.getPrototypeOf(handle) as SyncMethods);
    } finally {
      await handle.close();
    }
  }

  end(): void {
    this.#restore();
  }

  /** Paths, from this directory down, that are not durable. Paths for which `leavesOut` is true need not be. */
  unsyncedIn(root: string, leavesOut: (path: string) => boolean = () => false): string[] {
    const found = this.isSynced(root) ? [] : [root];
    for (const entry of readdirSync(root, { withFileTypes: true })) {
      const path = join(root, entry.name);
      if (leavesOut(path)) continue;
      if (entry.isDirectory()) found.push(...this.unsyncedIn(path, leavesOut));
      else if (!this.isSynced(path)) found.push(path);
    }
    return found;
  }

  isSynced(path: string): boolean {
    const { ino, mtimeNs } = statSync(path, { bigint: true });
    return this.#synced.get(ino) === mtimeNs;
  }
}

type SyncMethods = Pick<FileHandle, 'sync' | 'datasync'>;
