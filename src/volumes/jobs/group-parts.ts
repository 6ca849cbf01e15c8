import { VolumeError } from '../../errors.ts';
import type { GroupStep, GroupStepResult } from '../model.ts';

/** The step of that kind. */
type StepOf<K extends GroupStep['kind']> = Extract<GroupStep, { kind: K }>;

interface Expected {
  readonly kind: GroupStep['kind'];
  readonly take: (step: GroupStep) => void;
}

interface Asked {
  readonly resolve: (result: GroupStepResult) => void;
  readonly reject: (error: Error) => void;
}

/** The part of a group snapshot that this node is taking. The controller lets it advance, and gives it up by ending its lease. */
export class GroupPart {
  readonly #lease: AbortSignal;
  readonly #subject: string;
  #expected: Expected | undefined;
  #asked: Asked | undefined;
  #end: VolumeError | undefined;

  constructor(subject: string, lease: AbortSignal) {
    this.#subject = subject;
    this.#lease = lease;
  }

  /**
   * Answers the step before this one, and waits for the controller to ask for this one. Throws `unavailable` if the controller is gone, or
   * does not ask within the time limit.
   */
  async next<K extends GroupStep['kind']>(
    kind: K,
    { timeoutMs, done = {} }: { readonly timeoutMs: number; readonly done?: GroupStepResult },
  ): Promise<StepOf<K>> {
    const lease = this.#lease;
    let timer: NodeJS.Timeout | undefined;
    let leave = (): void => undefined;
    try {
      return await new Promise<StepOf<K>>((resolve, reject) => {
        const giveUp = (why: string): void => {
          // A step that comes before everything is undone gets this reason, too.
          this.#end = new VolumeError('unavailable', `${this.#subject}: ${why}; nothing was kept`);
          reject(this.#end);
        };
        leave = () => {
          giveUp('the controller is gone');
        };
        timer = setTimeout(giveUp, timeoutMs, 'the other nodes or the controller took too long');
        lease.addEventListener('abort', leave, { once: true });
        if (lease.aborted) leave();
        // `advance` compares the kinds.
        this.#expected = { kind, take: (step) => resolve(step as StepOf<K>) };
        this.finish(done);
      });
    } finally {
      this.#expected = undefined;
      clearTimeout(timer);
      lease.removeEventListener('abort', leave);
    }
  }

  /** Answers the step that is being made. */
  finish(result: GroupStepResult): void {
    this.#asked?.resolve(result);
    this.#asked = undefined;
  }

  /** The part has ended with that error; a step that is being made, and any later one, gets it. */
  fail(error: unknown): void {
    this.#end =
      error instanceof VolumeError
        ? error
        : new VolumeError('unavailable', `${this.#subject} has ended; take it again`, {
            cause: error,
          });
    this.#asked?.reject(this.#end);
    this.#asked = undefined;
  }

  /** Makes a step. Throws why the part has ended, and `wrong-state` if another step is the next one. */
  async advance(step: GroupStep): Promise<GroupStepResult> {
    if (this.#end !== undefined) throw this.#end;
    const expected = this.#expected;
    if (expected?.kind !== step.kind) {
      throw new VolumeError(
        'wrong-state',
        `${this.#subject}: step '${step.kind}' is not the next one; take the group again`,
      );
    }
    this.#expected = undefined;
    return new Promise<GroupStepResult>((resolve, reject) => {
      this.#asked = { resolve, reject };
      expected.take(step);
    });
  }
}

/** How long the end of a part is kept for steps that come too late, so that they get its reason. */
const endedMs = 60_000;

/** The parts of group snapshots over several nodes that this node is taking, by their attempt. */
export class GroupParts {
  readonly #parts = new Map<string, GroupPart>();

  /** A new part, which ends with its lease. Throws `busy` if there is one of that attempt. */
  begin(attempt: string, subject: string, lease: AbortSignal): GroupPart {
    if (this.#parts.has(attempt))
      throw new VolumeError('busy', `${subject} is being taken; try again when it has ended`);
    const part = new GroupPart(subject, lease);
    this.#parts.set(attempt, part);
    return part;
  }

  end(attempt: string, error: unknown): void {
    this.#parts.get(attempt)?.fail(error);
    setTimeout(() => this.#parts.delete(attempt), endedMs).unref();
  }

  /** Throws `unavailable` if there is no part of that attempt: the driver has started again since. */
  get(attempt: string): GroupPart {
    const part = this.#parts.get(attempt);
    if (part !== undefined) return part;
    throw new VolumeError(
      'unavailable',
      `this node is not taking a group snapshot of attempt '${attempt}', perhaps because its driver has started again; take the group again`,
    );
  }
}
