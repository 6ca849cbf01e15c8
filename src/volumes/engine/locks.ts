import { VolumeError } from '../../errors.ts';

interface Lock {
  readonly operation: string;
  readonly mode: 'exclusive' | 'shared';
  count: number;
  readonly sinceMs: number;
  /** Of a check: resolves when it has ended. */
  readonly ended?: Promise<void>;
}

/** The key of the lock of a volume. `id` is the one by which calls name the volume (`callIdOf` in pool/contents.ts). */
export const volumeLock = (id: string): string => `volume:${id}`;

/** The key of the lock for mounting and unmounting at a path: calls for two volumes must not both find the path free. */
export const targetLock = (path: string): string => `target:${path}`;

export interface LockPlan {
  readonly exclusive?: readonly string[];
  readonly shared?: readonly string[];
}

/**
 * Exclusive and shared locks of operations, by key. A caller that finds the lock of another call is refused with `busy`, never queued
 * (CSI spec, "Concurrency"). Keys are `volume:ID`, `target:PATH`, `snapshot:ID`, `group:ID` and `pool:NAME`.
 */
export class Locks {
  readonly #locks = new Map<string, Lock>();
  readonly #nowMs: () => number;

  constructor(nowMs = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /**
   * Acquires all locks of the plan atomically (without an await in between), or throws `busy`. The returned function releases them;
   * it is idempotent.
   */
  acquire(plan: LockPlan, operation: string): () => void {
    return this.#acquire(plan, { operation });
  }

  #acquire(plan: LockPlan, holder: Pick<Lock, 'operation' | 'ended'>): () => void {
    const wanted = wantedBy(plan);
    const current = this.#conflict(wanted);
    if (current !== undefined) {
      const { operation, key } = current;
      throw new VolumeError(
        'busy',
        `${operation} is in progress for ${key.replace(':', ' ')}${this.#ageOf(current)}; try again when it has ended`,
      );
    }
    for (const { key, mode } of wanted) {
      const held = this.#locks.get(key);
      if (held === undefined)
        this.#locks.set(key, { ...holder, mode, count: 1, sinceMs: this.#nowMs() });
      else held.count += 1;
    }
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      for (const { key } of wanted) this.#release(key);
    };
  }

  /** For a short check of the driver itself. Returns undefined if one of the locks is taken; a call that comes meanwhile waits. */
  acquireForCheck(plan: LockPlan, check: string): (() => void) | undefined {
    if (this.#conflict(wantedBy(plan)) !== undefined) return undefined;
    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const release = this.#acquire(plan, { operation: check, ended });
    return () => {
      release();
      end();
    };
  }

  /** Resolves when the check has ended that has locked one of these keys; undefined if none has. */
  checkOf(plan: LockPlan): Promise<void> | undefined {
    return this.#conflict(wantedBy(plan))?.ended;
  }

  #conflict(wanted: readonly Wanted[]): (Lock & { readonly key: string }) | undefined {
    for (const { key, mode } of wanted) {
      const current = this.#locks.get(key);
      if (current !== undefined && (mode === 'exclusive' || current.mode === 'exclusive'))
        return { ...current, key };
    }
    return undefined;
  }

  #release(key: string): void {
    const current = this.#locks.get(key);
    if (current === undefined) return;
    current.count -= 1;
    if (current.count === 0) this.#locks.delete(key);
  }

  /** The age of a lock, for messages; '' during its first second. */
  #ageOf({ sinceMs }: Lock): string {
    const seconds = Math.floor((this.#nowMs() - sinceMs) / 1000);
    return seconds < 1 ? '' : `, started ${seconds} s ago`;
  }

  /** The name of the operation that has locked the key; undefined if it is not locked. */
  lockedBy(key: string): string | undefined {
    return this.#locks.get(key)?.operation;
  }

  get size(): number {
    return this.#locks.size;
  }
}

interface Wanted {
  readonly key: string;
  readonly mode: Lock['mode'];
}

function wantedBy(plan: LockPlan): readonly Wanted[] {
  const exclusive = new Set(plan.exclusive ?? []);
  const shared = new Set((plan.shared ?? []).filter((key) => !exclusive.has(key)));
  return [
    ...[...exclusive].map((key) => ({ key, mode: 'exclusive' as const })),
    ...[...shared].map((key) => ({ key, mode: 'shared' as const })),
  ].sort((a, b) => (a.key < b.key ? -1 : 1));
}
