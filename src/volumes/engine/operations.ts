import { withTimeout } from '../../async.ts';
import { VolumeError } from '../../errors.ts';
import { StuckError } from '../../host/errors.ts';
import type { Logger } from '../../observe/log.ts';
import { withReason } from './failures.ts';
import { type LockPlan, Locks } from './locks.ts';

/** A caller that waits for an operation. Its signal ends the waiting, not the work. */
export interface Call {
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** What the work of an operation may use. */
export interface Operation {
  readonly log: Logger;
  /** The driver's own wish to stop: SIGTERM past its bound, or a delete of the same id. Long work polls it. */
  readonly signal: AbortSignal;
  /** The driver ends: what the next start can go on with should stay. */
  isClosing(): boolean;
  /**
   * Called once, right before the first effect: throws `cancelled` when no caller waits any more. From then on the work goes
   * on to its end whoever waits (design: the caller's deadline ends only its waiting).
   */
  beginEffects(): void;
  /** Tells how far a long copy is, for whoever asks by `Operations.progressOf`. */
  tell(progress: OperationProgress): void;
}

export interface OperationProgress {
  readonly doneBytes: bigint;
  readonly totalBytes: bigint;
}

export interface OperationPlan extends LockPlan {
  /** The RPC's or command's name, for messages. */
  readonly name: string;
  /** The id that the operation belongs to; a gate for blocking kernel calls too. */
  readonly owner: string;
  /** Equal requests with an equal name and owner share one run; undefined never shares. */
  readonly request?: unknown;
}

interface Running {
  readonly name: string;
  readonly fingerprint: string | undefined;
  readonly abort: AbortController;
  readonly result: Promise<unknown>;
  waiting: number;
  progress: OperationProgress | undefined;
}

/** Runs operations under their locks; a repeated call joins the run that is under way (CSI spec, "Idempotency"). */
export class Operations {
  readonly locks = new Locks();
  readonly #running = new Map<string, Running>();
  readonly #ownedBy: <T>(owner: string, work: () => Promise<T>) => Promise<T>;
  readonly #whenReturned: (owner: string) => Promise<void> | undefined;
  readonly #reloadLocked: (locks: readonly string[]) => Promise<void>;
  #closed = false;

  /**
   * `ownedBy` marks the kernel calls made inside with their owner, and `whenReturned` tells of those that the operation left
   * stuck in the kernel (host/kernel/gate.ts). What it had locked for itself is given to `reloadLocked` when these have returned.
   */
  constructor(
    ownedBy: <T>(owner: string, work: () => Promise<T>) => Promise<T>,
    whenReturned: (owner: string) => Promise<void> | undefined = () => undefined,
    reloadLocked: (locks: readonly string[]) => Promise<void> = () => Promise.resolve(),
  ) {
    this.#ownedBy = ownedBy;
    this.#whenReturned = whenReturned;
    this.#reloadLocked = reloadLocked;
  }

  get runningCount(): number {
    return this.#running.size;
  }

  /** How far the operation that runs under `owner` is; undefined when none runs, or it has told nothing. */
  progressOf(owner: string): OperationProgress | undefined {
    return this.#running.get(owner)?.progress;
  }

  async run<T>(
    plan: OperationPlan,
    call: Call,
    work: (operation: Operation) => Promise<T>,
  ): Promise<T> {
    if (call.signal.aborted) throw cancelled(plan.name);
    if (this.#closed) {
      throw new VolumeError('unavailable', 'the driver is shutting down; try again in a moment');
    }
    const key = plan.owner;
    const fingerprint = plan.request === undefined ? undefined : fingerprintOf(plan.request);
    const current = this.#running.get(key);
    if (
      current !== undefined &&
      fingerprint !== undefined &&
      current.name === plan.name &&
      current.fingerprint === fingerprint
    ) {
      return this.#wait<T>(current, call, plan.name);
    }
    const release = this.locks.take(plan, plan.name);
    const running = this.#start(plan, { call, fingerprint, release, work });
    return this.#wait<T>(running, call, plan.name);
  }

  /** Asks the operation of that name that runs under `owner` to stop, as a delete does with the create of the same id. */
  abort(owner: string, name: string, why: string): void {
    const running = this.#running.get(owner);
    if (running?.name === name) running.abort.abort(new VolumeError('cancelled', why));
  }

  /** No new operations; waits for the running ones, after `boundMs` aborts them and waits once more as long. */
  async drain(boundMs: number): Promise<void> {
    this.#closed = true;
    await this.#allEnded(boundMs);
    for (const running of this.#running.values()) {
      running.abort.abort(new VolumeError('unavailable', 'the driver is shutting down; try again'));
    }
    await this.#allEnded(boundMs);
  }

  async #allEnded(boundMs: number): Promise<void> {
    const all = Promise.allSettled([...this.#running.values()].map(({ result }) => result));
    await withTimeout(all, boundMs);
  }

  #start<T>(
    plan: OperationPlan,
    run: {
      call: Call;
      fingerprint: string | undefined;
      release: () => void;
      work: (operation: Operation) => Promise<T>;
    },
  ): Running {
    const abort = new AbortController();
    let running: Running | undefined;
    const operation: Operation = {
      log: run.call.log,
      signal: abort.signal,
      isClosing: () => this.#closed,
      beginEffects: () => {
        abort.signal.throwIfAborted();
        if (running?.waiting === 0) throw cancelled(plan.name);
      },
      tell: (progress) => {
        if (running !== undefined) running.progress = progress;
      },
    };
    // What a story did not explain itself still gets a reason.
    const workWithReason = async (): Promise<T> =>
      withReason(plan.owner, undefined, () => run.work(operation));
    let hung = false;
    const work = this.#ownedBy(plan.owner, workWithReason);
    work.catch((error: unknown) => {
      hung = error instanceof VolumeError && error.cause instanceof StuckError;
    });
    const result = work.finally(() => {
      if (this.#running.get(plan.owner) === running) this.#running.delete(plan.owner);
      // A call that has not returned may still change what the locks guard, so they stay with it.
      const returned = this.#whenReturned(plan.owner);
      if (returned === undefined && !hung) run.release();
      else void this.#settle(plan, returned).finally(run.release);
    });
    // Whoever waits sees the failure; with nobody waiting it must not end the process.
    result.catch(() => undefined);
    const { fingerprint } = run;
    running = { name: plan.name, fingerprint, abort, result, waiting: 0, progress: undefined };
    this.#running.set(plan.owner, running);
    return running;
  }

  /** What hung may have come to its end after the operation was told that it failed. */
  async #settle({ exclusive = [] }: LockPlan, returned: Promise<void> | undefined): Promise<void> {
    await returned;
    await this.#reloadLocked(exclusive);
  }

  async #wait<T>(running: Running, call: Call, name: string): Promise<T> {
    running.waiting += 1;
    let onAbort = (): void => undefined;
    const gone = new Promise<never>((_resolve, reject) => {
      onAbort = () => {
        reject(cancelled(name));
      };
      call.signal.addEventListener('abort', onAbort, { once: true });
    });
    try {
      // A running operation of this name and fingerprint answers what this caller asked for.
      return await Promise.race([running.result as Promise<T>, gone]);
    } finally {
      running.waiting -= 1;
      call.signal.removeEventListener('abort', onAbort);
    }
  }
}

function cancelled(name: string): VolumeError {
  return new VolumeError('cancelled', `the caller of ${name} gave up waiting`);
}

function fingerprintOf(request: unknown): string {
  return JSON.stringify(request, (_key, value: unknown) =>
    typeof value === 'bigint' ? `${value}n` : value,
  );
}
