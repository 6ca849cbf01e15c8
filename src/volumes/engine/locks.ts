import { VolumeError } from '../../errors.ts';

interface Held {
  readonly operation: string;
  readonly mode: 'exclusive' | 'shared';
  count: number;
  readonly sinceMs: number;
}

/** Whoever mounts there, or takes a mount away: two volumes that are given one path must not both find it free. */
export const targetLock = (path: string): string => `target:${path}`;

export interface LockPlan {
  readonly exclusive?: readonly string[];
  readonly shared?: readonly string[];
}

/**
 * One operation per key at a time, or several that only read. A second caller is refused with `busy`, never queued (CSI
 * spec, "Concurrency"). Keys are `volume:ID`, `target:PATH`, `snapshot:ID`, `group:ID`, `name:…`; taken in sorted order, all or none.
 */
export class Locks {
  readonly #held = new Map<string, Held>();
  readonly #nowMs: () => number;

  constructor(nowMs = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** Takes all locks of the plan at once (no await in between) or throws `busy`. The answer gives them back; idempotent. */
  take(plan: LockPlan, operation: string): () => void {
    const exclusive = new Set(plan.exclusive ?? []);
    const shared = (plan.shared ?? []).filter((key) => !exclusive.has(key));
    const wanted = [
      ...[...exclusive].map((key) => ({ key, mode: 'exclusive' as const })),
      ...[...new Set(shared)].map((key) => ({ key, mode: 'shared' as const })),
    ].sort((a, b) => (a.key < b.key ? -1 : 1));
    for (const { key, mode } of wanted) {
      const current = this.#held.get(key);
      if (current !== undefined && (mode === 'exclusive' || current.mode === 'exclusive')) {
        throw new VolumeError(
          'busy',
          `${current.operation} is in progress for ${key.replace(':', ' ')}${this.#sinceWords(current)}; try again when it has ended`,
        );
      }
    }
    for (const { key, mode } of wanted) {
      const current = this.#held.get(key);
      if (current === undefined)
        this.#held.set(key, { operation, mode, count: 1, sinceMs: this.#nowMs() });
      else current.count += 1;
    }
    let given = false;
    return () => {
      if (given) return;
      given = true;
      for (const { key } of wanted) this.#release(key);
    };
  }

  #release(key: string): void {
    const current = this.#held.get(key);
    if (current === undefined) return;
    current.count -= 1;
    if (current.count === 0) this.#held.delete(key);
  }

  /** Of what takes long enough to be wondered at. */
  #sinceWords({ sinceMs }: Held): string {
    const seconds = Math.floor((this.#nowMs() - sinceMs) / 1000);
    return seconds < 1 ? '' : `, since ${seconds} s`;
  }

  /** What works on that key now, for messages and tests. */
  holderOf(key: string): string | undefined {
    return this.#held.get(key)?.operation;
  }

  get size(): number {
    return this.#held.size;
  }
}
