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
  /** The address of a caller on another machine, and its port. */
  readonly peer?: string;
}

/** A running operation, as passed to its work. */
export interface Operation {
  readonly log: Logger;
  /**
   * Aborted if the work must end early: when the time limit after SIGTERM has passed, or when the same id is being deleted. Long
   * work polls it.
   */
  readonly signal: AbortSignal;
  /** Whether the driver is shutting down. Unfinished work that the next start can resume should then be kept. */
  isClosing(): boolean;
  /**
   * Must be called once, right before the first effect. Throws `cancelled` if no caller is waiting any more. From then on the work
   * runs to completion, because a caller's deadline only ends its own wait (docs/design.md).
   */
  beginEffects(): void;
  /** Reports the progress of a long copy, which `Operations.progressOf` returns. */
  readonly reportProgress: (doneBytes: bigint, totalBytes: bigint) => void;
}

export interface OperationProgress {
  readonly doneBytes: bigint;
  readonly totalBytes: bigint;
}

interface OperationPlan extends LockPlan {
  /** The name of the RPC or command, for messages. */
  readonly name: string;
  /** The lane in which the blocking calls of the operation run. */
  readonly lane: LaneSpec;
  /** Calls with an equal request, the same name and the same lane share one run; a call without a request shares none. */
  readonly request?: unknown;
}

/** A call waits for a check of the driver itself, which takes milliseconds, unless a disk hangs. */
const maxCheckMs = 1_000;

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
   * `whenReturned` returns a promise for the moment when the system calls of a lane that are stuck in the kernel have returned
   * (host/kernel/gate.ts). Then, before the exclusive locks of the operation are released, they are passed to `reloadLocked`.
   */
  constructor(
    whenReturned: (lane: string) => Promise<void> | undefined = () => undefined,
    reloadLocked: (locks: readonly string[]) => Promise<void> = () => Promise.resolve(),
  ) {
    this.#whenReturned = whenReturned;
    this.#reloadLocked = reloadLocked;
  }

  /** Releases a lock that was taken outside of an operation, once no system call of its lane is stuck in the kernel. */
  releaseWhenReturned(lane: LaneSpec, release: () => void): void {
    const returned = this.#whenReturned(laneName(lane));
    if (returned === undefined) release();
    else void returned.finally(release);
  }

  get runningCount(): number {
    return this.#running.size;
  }

  /** Progress of the operation that runs in that lane; undefined if none runs or none was reported. */
  progressOf(lane: LaneSpec): OperationProgress | undefined {
    return this.#running.get(laneName(lane))?.progress;
  }

  /** The name of the operation that runs in that lane; undefined if none runs. */
  nameOf(lane: LaneSpec): string | undefined {
    return this.#running.get(laneName(lane))?.name;
  }

  /** Runs `work` under the locks of the plan, and passes it a copy of `deps` whose host runs in the lane of the operation. */
  async run<Deps extends { readonly host: Host }, T>(
    deps: Deps,
    call: Call,
    plan: OperationPlan,
    work: (deps: Deps, operation: Operation) => Promise<T>,
  ): Promise<T> {
    // No await without a check: two equal calls must not both find that none runs.
    const check = this.locks.checkOf(plan);
    if (check !== undefined) await withTimeout(check, maxCheckMs);
    if (call.signal.aborted) throw cancelledError(plan.name);
    if (this.#closed) {
      throw new VolumeError(
        'unavailable',
        'the driver is shutting down; try again after its restart',
      );
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

  /** Asks the operation with that name in that lane to stop. A delete does so with a create of the same id. */
  abort(lane: LaneSpec, name: string, why: string): void {
    const running = this.#running.get(laneName(lane));
    if (running?.name === name) running.abort.abort(new VolumeError('cancelled', why));
  }

  /**
   * Refuses new operations and waits for the running ones. After `timeoutMs` it aborts those that still run, and waits for
   * `timeoutMs` again.
   */
  async drain(timeoutMs: number): Promise<void> {
    this.#closed = true;
    await this.#allEnded(timeoutMs);
    for (const running of this.#running.values()) {
      running.abort.abort(
        new VolumeError('unavailable', 'the driver is shutting down; try again after its restart'),
      );
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
      reportProgress: (doneBytes, totalBytes) => {
        if (running !== undefined) running.progress = { doneBytes, totalBytes };
      },
    };
    let hung = false;
    const work = runWithReason(key, () => run.work(operation));
    work.catch((error: unknown) => {
      hung = error instanceof VolumeError && error.cause instanceof StuckError;
    });
    const result = work.finally(() => {
      if (this.#running.get(key) === running) this.#running.delete(key);
      // A system call that has not returned may still change the locked entries, so the locks are released only after it returns.
      const returned = this.#whenReturned(key);
      if (returned === undefined && !hung) run.release();
      else void this.#reloadWhenReturned(plan, returned).finally(run.release);
    });
    // Waiting callers get the failure. If none is waiting, an unhandled rejection would end the process.
    result.catch(() => undefined);
    const { fingerprint } = run;
    running = { name: plan.name, fingerprint, abort, result, waiting: 0, progress: undefined };
    this.#running.set(key, running);
    return running;
  }

  /** A stuck call may succeed after its operation has failed, so the records are read again. */
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
