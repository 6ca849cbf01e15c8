import type { FileHandle } from 'node:fs/promises';
import { settleAll } from '../../async.ts';
import { hasErrno, KernelError } from '../errors.ts';
import { ioctl } from '../kernel/calls.ts';
import { closeHandle } from '../kernel/descriptor.ts';
import { driverLane, type Lane, laneWithin } from '../lane.ts';
import { openMounted } from '../mount/open-mounted.ts';
import type { Failure, FreezeTarget } from './protocol.ts';

/**
 * Longer than any freeze: the group has its own time limit, and a call must not be abandoned before it returns, since
 * it may still freeze.
 */
const callTimeoutMs = 24 * 60 * 60_000;

interface Member {
  readonly target: string;
  readonly handle: FileHandle;
  state: 'opened' | 'freezing' | 'frozen' | 'failed' | 'closed';
}

/** How a group ended: thawed on request, thawed at the time limit, or never completely frozen. */
export type GroupEnd =
  | { readonly end: 'thawed' | 'expired'; readonly frozenMs: number }
  | { readonly end: 'failed'; readonly failure: Failure };

/**
 * Filesystems that the freeze child freezes together. All are opened and checked against their device before any is
 * frozen. A filesystem whose freeze completes only after the group has ended is thawed at once.
 */
export class FreezeGroup {
  readonly #onEnd: (end: GroupEnd) => void;
  #members: readonly Member[] = [];
  #isFrozen = false;
  #ending: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #startedAtMs = 0;

  /**
   * `onEnd` is called once, when no filesystem of the group is frozen any more, except those whose freeze call has not
   * returned.
   */
  constructor(onEnd: (end: GroupEnd) => void) {
    this.#onEnd = onEnd;
  }

  /** Freezes all targets concurrently. Returns true if all are frozen; otherwise the group has ended. */
  async freeze(targets: readonly FreezeTarget[], timeoutMs: number): Promise<boolean> {
    this.#timer = setTimeout(() => void this.#endOnce('expired'), timeoutMs);
    try {
      const opened = await openAll(targets);
      this.#members = opened;
      // The time limit has passed: nothing was frozen, and the end has been reported.
      if (this.#ending !== undefined)
        await Promise.all(opened.map((member) => this.#thawAndClose(member)));
      else await this.#freezeAll(opened);
    } catch (error) {
      await this.#endOnce(failureOf(error));
    }
    this.#isFrozen = this.#ending === undefined;
    return this.#isFrozen;
  }

  /** Thaws everything. Idempotent. */
  thaw(): Promise<void> {
    return this.#endOnce('thawed');
  }

  async #freezeAll(members: readonly Member[]): Promise<void> {
    this.#startedAtMs = performance.now();
    await settleAll(members.map((member) => this.#freezeOne(member)));
  }

  async #freezeOne(member: Member): Promise<void> {
    const { target, handle } = member;
    member.state = 'freezing';
    const about = { subject: target, timeoutMs: callTimeoutMs };
    try {
      await ioctl(laneOf(target), handle.fd, 'FIFREEZE', 0, about);
      member.state = 'frozen';
    } catch (error) {
      member.state = 'failed';
      throw error;
    } finally {
      if (this.#ending !== undefined) await this.#thawAndClose(member);
    }
  }

  /** Thaws a frozen member and closes it. A member whose freeze call has not returned is handled when it does. */
  async #thawAndClose(member: Member): Promise<void> {
    const { target, handle, state } = member;
    if (state === 'freezing' || state === 'closed') return;
    member.state = 'closed';
    try {
      if (state === 'frozen')
        await ioctl(laneOf(target), handle.fd, 'FITHAW', 0, { subject: target });
    } catch (error) {
      // In the meantime another process thawed it.
      if (!hasErrno(error, 'EINVAL')) throw error;
    } finally {
      await closeHandle(laneOf(target), handle, target);
    }
  }

  #endOnce(why: 'thawed' | 'expired' | Failure): Promise<void> {
    this.#ending ??= this.#end(why);
    return this.#ending;
  }

  async #end(why: 'thawed' | 'expired' | Failure): Promise<void> {
    clearTimeout(this.#timer);
    // `#ending` is only set when this function first awaits. Await here, so that members that freeze late see it.
    await Promise.resolve();
    const members = this.#members.map((member) => this.#thawAndClose(member));
    const failure = await settleAll(members).then(() => undefined, failureOf);
    const frozenMs = performance.now() - this.#startedAtMs;
    if (failure !== undefined) this.#onEnd({ end: 'failed', failure });
    else if (typeof why === 'object') this.#onEnd({ end: 'failed', failure: why });
    else if (this.#isFrozen) this.#onEnd({ end: why, frozenMs });
    else this.#onEnd({ end: 'failed', failure: timedOut(this.#members) });
  }
}

/** Each filesystem has its own lane, so that a hung one does not delay the others. */
function laneOf(target: string): Lane {
  return laneWithin(driverLane, target);
}

/** Opens and checks all targets. After a failure, none stays open. */
async function openAll(targets: readonly FreezeTarget[]): Promise<readonly Member[]> {
  const attempts = await Promise.allSettled(
    targets.map(async ({ target, device }): Promise<Member> => {
      const handle = await openMounted(laneOf(target), target, device);
      return { target, handle, state: 'opened' };
    }),
  );
  const opened = attempts.flatMap((attempt) =>
    attempt.status === 'fulfilled' ? [attempt.value] : [],
  );
  const failed = attempts.find((attempt) => attempt.status === 'rejected');
  if (failed === undefined) return opened;
  await Promise.all(
    opened.map(({ handle, target }) => closeHandle(laneOf(target), handle, target)),
  );
  throw failed.reason;
}

function failureOf(error: unknown): Failure {
  if (error instanceof KernelError) {
    return { call: error.syscall, errno: error.errno, subject: error.subject };
  }
  return {
    call: 'freeze',
    errno: 'EIO',
    subject: error instanceof Error ? error.message : String(error),
  };
}

function timedOut(members: readonly Member[]): Failure {
  const waiting = members.filter(({ state }) => state === 'freezing').map(({ target }) => target);
  return { call: 'FIFREEZE', errno: 'ETIMEDOUT', subject: waiting.join(', ') || 'the group' };
}
