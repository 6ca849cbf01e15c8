/** Reproducible random numbers (mulberry32). */
export interface Random {
  /** An integer from 0 to `below` - 1. */
  below(below: number): number;
  pick<T>(from: readonly [T, ...T[]]): T;
}

export function makeRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (bound: number): number => Math.floor(next() * bound);
  return { below, pick: (from) => from[below(from.length)] ?? from[0] };
}

/** The seed of this run: the given one, or the number of the day, so that each day tests other moments, which can be reproduced. */
export function seedOf(text: string | undefined): number {
  const asked = Number(text);
  return text !== undefined && text !== '' && Number.isInteger(asked)
    ? asked
    : Math.floor(Date.now() / 86_400_000);
}
