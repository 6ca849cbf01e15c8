import type { Freeze, Freezer, Mounts } from '../host.ts';
import { FreezeChild, type FreezeSubject } from './client.ts';

/** How long an idle child is kept: it is as large as any Node process, and starts in 60 ms. */
const idleMs = 5 * 60_000;

/** Freezes owned by a child process (freeze-child.ts), which is kept for the next freeze. */
export function makeFreezer(
  mounts: Pick<Mounts, 'thaw'>,
): Freezer & { readonly childPid: number | undefined } {
  return new ChildFreezer(mounts);
}

class ChildFreezer implements Freezer {
  readonly #mounts: Pick<Mounts, 'thaw'>;
  #child: FreezeChild | undefined;
  #idle: NodeJS.Timeout | undefined;

  constructor(mounts: Pick<Mounts, 'thaw'>) {
    this.#mounts = mounts;
  }

  get childPid(): number | undefined {
    return this.#child?.isAlive === true ? this.#child.pid : undefined;
  }

  async freeze(targets: readonly FreezeSubject[], options: { timeoutMs: number }): Promise<Freeze> {
    clearTimeout(this.#idle);
    if (this.#child?.isAlive !== true) this.#child = new FreezeChild(this.#mounts);
    const child = this.#child;
    const freeze = await child.freeze(targets, options.timeoutMs);
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
