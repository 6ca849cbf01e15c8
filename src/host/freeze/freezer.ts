import type { Freeze, Freezer, Mounts } from '../host.ts';
import { FreezeChild, type FreezeOptions, type FreezeSubject } from './client.ts';

/** How long an idle child is kept. It uses as much memory as any Node process, and takes 60 ms to start. */
const idleMs = 5 * 60_000;

/**
 * Creates a freezer whose freezes are owned by a child process (freeze-child.ts). If that process is killed, `mounts`
 * thaws.
 */
export function makeFreezer(child: SharedFreezeChild, mounts: Pick<Mounts, 'thaw'>): Freezer {
  return { freeze: (targets, { timeoutMs }) => child.freeze(targets, { timeoutMs, mounts }) };
}

/**
 * The freeze child, which all lanes share. It stays alive for `idleMs` after a freeze, so that the next one starts
 * faster.
 */
export class SharedFreezeChild {
  #child: FreezeChild | undefined;
  #idle: NodeJS.Timeout | undefined;

  get childPid(): number | undefined {
    return this.#child?.isAlive === true ? this.#child.pid : undefined;
  }

  async freeze(targets: readonly FreezeSubject[], options: FreezeOptions): Promise<Freeze> {
    clearTimeout(this.#idle);
    if (this.#child?.isAlive !== true) this.#child = new FreezeChild();
    const child = this.#child;
    const freeze = await child.freeze(targets, options);
    return {
      thaw: async () => {
        try {
          return await freeze.thaw();
        } finally {
          this.#endWhenIdle(child);
        }
      },
    };
  }

  #endWhenIdle(child: FreezeChild): void {
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      if (!child.isBusy) child.close();
    }, idleMs).unref();
  }
}
