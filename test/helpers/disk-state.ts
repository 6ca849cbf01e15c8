import { readdirSync, statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Which files and directories have reached the disk: every fsync of this process is noted with the state that it saw. What was
 * changed later, or never synced, is what a power cut may take away.
 */
export class DiskState {
  /** By inode: when it had last been changed as it was synced. */
  readonly #synced = new Map<bigint, bigint>();
  readonly #restore: () => void;

  private constructor(prototype: SyncMethods) {
    const real = { sync: prototype.sync, datasync: prototype.datasync };
    const note = (handle: FileHandle): void => {
      const { ino, mtimeNs } = statSync(`/proc/self/fd/${handle.fd}`, { bigint: true });
      this.#synced.set(ino, mtimeNs);
    };
    for (const name of ['sync', 'datasync'] as const) {
      prototype[name] = async function (this: FileHandle) {
        // Before the call: what is written while it runs may be in or not.
        note(this);
        await real[name].call(this);
      };
    }
    this.#restore = () => Object.assign(prototype, real);
  }

  /** Watches every file handle of this process from now on. */
  static async watch(): Promise<DiskState> {
    const handle = await open('/proc/self/status');
    try {
      // The methods of all file handles: node makes them of one class that it does not export.
      return new DiskState(Object.getPrototypeOf(handle) as SyncMethods);
    } finally {
      await handle.close();
    }
  }

  end(): void {
    this.#restore();
  }

  /** What of this directory, it and everything below, is not on the disk; `leaves out` names what need not be. */
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
