import type { Freeze, Freezer, Mounts } from '../host.ts';
import { FreezeChild, type FreezeOptions, type FreezeSubject } from './client.ts';

/** How long an idle child is kept: it is as large as any Node process, and starts in 60 ms. */
const idleMs = 5 * 60_000;

/** Freezes owned by a child process (freeze-child.ts). `mounts` thaw if that process is killed. */
export function makeFreezer(child: KeptChild, mounts: Pick<Mounts, 'thaw'>): Freezer {
  return { freeze: (targets, { timeoutMs }) => child.freeze(targets, { timeoutMs, mounts }) };
}

/** The child process, which is kept for the next freeze, whatever the lane. */
export class KeptChild {
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
