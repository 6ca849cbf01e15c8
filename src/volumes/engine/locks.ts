import { VolumeError } from '../../errors.ts';

interface Lock {
  readonly operation: string;
  readonly mode: 'exclusive' | 'shared';
  count: number;
  readonly sinceMs: number;
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
 * Exclusive and shared locks of operations, by key. A caller that finds a conflicting lock is refused with `busy`, never queued
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
    const exclusive = new Set(plan.exclusive ?? []);
    const shared = (plan.shared ?? []).filter((key) => !exclusive.has(key));
    const wanted = [
      ...[...exclusive].map((key) => ({ key, mode: 'exclusive' as const })),
      ...[...new Set(shared)].map((key) => ({ key, mode: 'shared' as const })),
    ].sort((a, b) => (a.key < b.key ? -1 : 1));
    for (const { key, mode } of wanted) {
      const current = this.#locks.get(key);
      if (current !== undefined && (mode === 'exclusive' || current.mode === 'exclusive')) {
        throw new VolumeError(
          'busy',
          `${current.operation} is in progress for ${key.replace(':', ' ')}${this.#ageOf(current)}; try again when it has ended`,
        );
      }
    }
    for (const { key, mode } of wanted) {
      const current = this.#locks.get(key);
      if (current === undefined)
        this.#locks.set(key, { operation, mode, count: 1, sinceMs: this.#nowMs() });
      else current.count += 1;
    }
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      for (const { key } of wanted) this.#release(key);
    };
  }

  /** Acquires all locks of the plan, or returns undefined if one of them is taken. */
  tryAcquire(plan: LockPlan, operation: string): (() => void) | undefined {
    try {
      return this.acquire(plan, operation);
    } catch (error) {
      if (error instanceof VolumeError) return undefined;
      throw error;
    }
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
