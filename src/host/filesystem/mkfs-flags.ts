/**
 * A flag with a default value. With `join`, a value of the caller is appended after a comma instead of replacing it.
 */
export interface DefaultFlag {
  readonly flag: string;
  readonly value: string;
  readonly join?: boolean;
}

/**
 * Merges the options of the caller (pairs of flag and value, from parseMkfsOptions) with our defaults so that each flag
 * occurs once: programs differ in how they treat a repeated flag.
 */
export function mergeFlags(
  options: readonly string[],
  defaults: readonly DefaultFlag[],
): readonly string[] {
  const values = new Map(defaults.map(({ flag, value }) => [flag, value]));
  const joined = new Set(defaults.filter(({ join }) => join).map(({ flag }) => flag));
  for (let index = 0; index < options.length; index += 2) {
    const flag = options[index] ?? '';
    const value = options[index + 1];
    if (value === undefined) throw new TypeError(`mkfs option ${flag} has no value`);
    const before = joined.has(flag) ? values.get(flag) : undefined;
    values.set(flag, before === undefined ? value : `${before},${value}`);
  }
  return [...values].flat();
}
