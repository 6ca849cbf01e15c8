/**
 * A mkfs flag with its default value. With `join`, the caller's value is appended after a comma instead of replacing
 * the default.
 */
export interface DefaultFlag {
  readonly flag: string;
  readonly value: string;
  readonly join?: boolean;
}

/**
 * Merges the caller's options (pairs of flag and value, from parseMkfsOptions) with the driver's defaults so that each
 * flag occurs only once: mkfs programs differ in how they treat a repeated flag.
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
