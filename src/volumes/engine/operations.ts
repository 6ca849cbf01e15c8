import { withTimeout } from '../../async.ts';
import { VolumeError } from '../../errors.ts';
import { StuckError } from '../../host/errors.ts';
import type { Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import { toVolumeError } from './failures.ts';
import { inLane, type LaneSpec, laneName } from './lanes.ts';
import { type LockPlan, Locks } from './locks.ts';

/** A caller waiting for an operation. Its signal ends the wait, not the operation. */
export interface Call {
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** What is passed to the work of an operation. */
export interface Operation {
  readonly log: Logger;
  /** Aborted when the driver wants the work to end: after SIGTERM and its time limit, or for a delete of the same id. Long work polls it. */
  readonly signal: AbortSignal;
  /** Whether the driver is shutting down: work that the next start can resume should be kept. */
  isClosing(): boolean;
  /**
   * Called once, right before the first effect: throws `cancelled` if no caller waits any more. From then on the work runs to its
   * end, because a caller's deadline ends only its wait (docs/design.md).
   */
  beginEffects(): void;
  /** Reports the progress of a long copy, which `Operations.progressOf` returns. */
  reportProgress(progress: OperationProgress): void;
}

export interface OperationProgress {
  readonly doneBytes: bigint;
  readonly totalBytes: bigint;
}

export interface OperationPlan extends LockPlan {
  /** The name of the RPC or command, for messages. */
  readonly name: string;
  /** What the operation is for; its blocking calls run in this lane. */
  readonly lane: LaneSpec;
  /** Calls with the same request, name and lane share one run. Undefined shares nothing. */
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

/** Runs operations under their locks. A repeated call joins the running one (CSI spec, "Idempotency"). */
export class Operations {
  readonly locks = new Locks();
  readonly #running = new Map<string, Running>();
  readonly #whenReturned: (lane: string) => Promise<void> | undefined;
  readonly #reloadLocked: (locks: readonly string[]) => Promise<void>;
  #closed = false;

  /**
   * `whenReturned` resolves when the system calls that the work of a lane left stuck in the kernel have returned
   * (host/kernel/gate.ts). The exclusive locks of the operation are then passed to `reloadLocked`, before they are released.
   */
  constructor(
    whenReturned: (lane: string) => Promise<void> | undefined = () => undefined,
    reloadLocked: (locks: readonly string[]) => Promise<void> = () => Promise.resolve(),
  ) {
    this.#whenReturned = whenReturned;
    this.#reloadLocked = reloadLocked;
  }

  get runningCount(): number {
    return this.#running.size;
  }

  /** Progress of the operation in that lane; undefined if none runs, or if it has reported nothing. */
  progressOf(lane: LaneSpec): OperationProgress | undefined {
    return this.#running.get(laneName(lane))?.progress;
  }

  /** Runs `work` under the locks of the plan. It gets the dependencies with a host in the operation's lane. */
  async run<Deps extends { readonly host: Host }, T>(
    deps: Deps,
    call: Call,
    plan: OperationPlan,
    work: (deps: Deps, operation: Operation) => Promise<T>,
  ): Promise<T> {
    if (call.signal.aborted) throw cancelledError(plan.name);
    if (this.#closed) {
      throw new VolumeError('unavailable', 'the driver is shutting down; try again in a moment');
    }
    const key = laneName(plan.lane);
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
    const release = this.locks.acquire(plan, plan.name);
    const workInLane = (operation: Operation): Promise<T> =>
      work(inLane(deps, plan.lane), operation);
    const running = this.#start(plan, { call, fingerprint, release, work: workInLane });
    return this.#wait<T>(running, call, plan.name);
  }

  /** Asks the operation of that name in that lane to stop, as a delete does with the create of the same id. */
  abort(lane: LaneSpec, name: string, why: string): void {
    const running = this.#running.get(laneName(lane));
    if (running?.name === name) running.abort.abort(new VolumeError('cancelled', why));
  }

  /** Refuses new operations and waits for the running ones. After `timeoutMs` it aborts them and waits as long again. */
  async drain(timeoutMs: number): Promise<void> {
    this.#closed = true;
    await this.#allEnded(timeoutMs);
    for (const running of this.#running.values()) {
      running.abort.abort(new VolumeError('unavailable', 'the driver is shutting down; try again'));
    }
    await this.#allEnded(timeoutMs);
  }

  async #allEnded(timeoutMs: number): Promise<void> {
    const all = Promise.allSettled([...this.#running.values()].map(({ result }) => result));
    await withTimeout(all, timeoutMs);
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
    const key = laneName(plan.lane);
    const abort = new AbortController();
    let running: Running | undefined;
    const operation: Operation = {
      log: run.call.log,
      signal: abort.signal,
      isClosing: () => this.#closed,
      beginEffects: () => {
        abort.signal.throwIfAborted();
        if (running?.waiting === 0) throw cancelledError(plan.name);
      },
      reportProgress: (progress) => {
        if (running !== undefined) running.progress = progress;
      },
    };
    let hung = false;
    const work = runWithReason(key, () => run.work(operation));
    work.catch((error: unknown) => {
      hung = error instanceof VolumeError && error.cause instanceof StuckError;
    });
    const result = work.finally(() => {
      if (this.#running.get(key) === running) this.#running.delete(key);
      // A system call that has not returned may still change what the locks protect, so they are kept until it does.
      const returned = this.#whenReturned(key);
      if (returned === undefined && !hung) run.release();
      else void this.#reloadWhenReturned(plan, returned).finally(run.release);
    });
    // Callers that wait get the failure. Without any, an unhandled rejection would end the process.
    result.catch(() => undefined);
    const { fingerprint } = run;
    running = { name: plan.name, fingerprint, abort, result, waiting: 0, progress: undefined };
    this.#running.set(key, running);
    return running;
  }

  /** A stuck call may have succeeded after the operation had failed, so the records are read again. */
  async #reloadWhenReturned(
    { exclusive = [] }: LockPlan,
    returned: Promise<void> | undefined,
  ): Promise<void> {
    await returned;
    await this.#reloadLocked(exclusive);
  }

  async #wait<T>(running: Running, call: Call, name: string): Promise<T> {
    running.waiting += 1;
    let onAbort = (): void => undefined;
    const abandoned = new Promise<never>((_resolve, reject) => {
      onAbort = () => {
        reject(cancelledError(name));
      };
      call.signal.addEventListener('abort', onAbort, { once: true });
    });
    try {
      // The running operation has this call's name and fingerprint, so its result has type T.
      return await Promise.race([running.result as Promise<T>, abandoned]);
    } finally {
      running.waiting -= 1;
      call.signal.removeEventListener('abort', onAbort);
    }
  }
}

async function runWithReason<T>(subject: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw await toVolumeError(error, subject);
  }
}

function cancelledError(name: string): VolumeError {
  return new VolumeError('cancelled', `the caller of ${name} gave up waiting`);
}

function fingerprintOf(request: unknown): string {
  return JSON.stringify(request, (_key, value: unknown) =>
    typeof value === 'bigint' ? `${value}n` : value,
  );
}
