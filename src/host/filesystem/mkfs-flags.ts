/** A flag that a program gets unless the caller says it; `join`: both, the caller's value after ours, comma between. */
export interface DefaultFlag {
  readonly flag: string;
  readonly value: string;
  readonly join?: boolean;
}

/**
 * The caller's words (pairs of flag and value, as parseMkfsOptions gives them) and our defaults put
 * together so that each flag stands once: programs differ in what a repeated flag means.
 */
export function mergeFlags(
  words: readonly string[],
  defaults: readonly DefaultFlag[],
): readonly string[] {
  const values = new Map(defaults.map(({ flag, value }) => [flag, value]));
  const joined = new Set(defaults.filter(({ join }) => join).map(({ flag }) => flag));
  for (let index = 0; index < words.length; index += 2) {
    const flag = words[index] ?? '';
    const value = words[index + 1];
    if (value === undefined) throw new TypeError(`mkfs option ${flag} has no value`);
    const before = joined.has(flag) ? values.get(flag) : undefined;
    values.set(flag, before === undefined ? value : `${before},${value}`);
  }
  return [...values].flat();
}
