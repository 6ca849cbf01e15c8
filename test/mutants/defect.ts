/** One deliberate defect of the driver, as data: a piece of its source, and the replacement. */
export interface Defect {
  /** The wrong behaviour of the driver. */
  readonly name: string;
  /** Below `src/`. */
  readonly file: string;
  /**
   * Matches the file exactly once. A string is source text, in which any run of white space matches any other. A regular expression
   * leaves open the names that may change.
   */
  readonly find: string | RegExp;
  /** With a regular expression, `$1` is its first group, as in `String.replace`. */
  readonly replace: string;
}

/** A defect, and the tests that must detect it. */
export interface Row extends Defect {
  /** Files of which at least one must fail: below `test/unit/`, or below `test/` if they begin with `integration/`. */
  readonly tests: readonly string[];
  /** The defect makes a test wait forever, so the time limit counts as detection. */
  readonly mayHang?: true;
}

/** Rows on one subject. */
export interface Subject {
  readonly title: string;
  readonly rows: readonly Row[];
}

/** A compiled module with a defect in it. */
export interface Mutant {
  /** The subject of its row, or `generated`. */
  readonly subject: string;
  readonly name: string;
  /** Below `src/`. */
  readonly file: string;
  readonly tests: readonly string[];
  readonly module: string;
  readonly mayHang: boolean;
}

/** The source with the defect in it. Throws unless the row matches it exactly once. */
export function mutated(source: string, { name, file, find, replace }: Defect): string {
  const matches = [...source.matchAll(patternOf(find))];
  const [match] = matches;
  if (match === undefined || matches.length > 1) {
    throw new Error(`${name}: its pattern matches src/${file} ${matches.length} times, not once`);
  }
  const replacement = typeof find === 'string' ? replace : match[0].replace(find, replace);
  return source.slice(0, match.index) + replacement + source.slice(match.index + match[0].length);
}

function patternOf(find: string | RegExp): RegExp {
  if (typeof find !== 'string') return new RegExp(find, `${find.flags}g`);
  const words = find.split(/\s+/).filter((word) => word !== '');
  return new RegExp(words.map(escaped).join(String.raw`\s+`), 'g');
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
}

/** The path of a test file without its extension, from the root of the repository. */
export function testPathOf(name: string): string {
  return isOnDevices(name) ? `test/${name}.test` : `test/unit/${name}.test`;
}

/** Whether a test file attaches loop devices and mounts them: it needs root, and must run alone. */
export function isOnDevices(name: string): boolean {
  return name.startsWith('integration/');
}
