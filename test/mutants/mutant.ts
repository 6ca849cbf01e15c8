/** One deliberate defect of the driver, as data: a piece of its text, and what stands there instead. */
export interface Defect {
  /** What the driver no longer does, in words. */
  readonly name: string;
  /** Below `src/`. */
  readonly file: string;
  /** Stands in the file exactly once. */
  readonly text: string;
  readonly by: string;
}

/** A defect, and who must see it. */
export interface Mutant extends Defect {
  /** Files of tests that turn red: below `test/unit/`, or with `integration/` before, below `test/`. */
  readonly red: readonly string[];
  /** The defect stops the test for good, which is seen by the bound on its time. */
  readonly mayHang?: true;
}

/** A defect that no test can see, and why. It is listed and not run. */
export interface Invisible extends Omit<Mutant, 'red' | 'mayHang'> {
  readonly whyGreen: string;
}

/** Defects of one kind. */
export interface Kind {
  readonly title: string;
  readonly mutants: readonly Mutant[];
  readonly invisible?: readonly Invisible[];
}

/** Where that file of tests stands, from the repository's root, without its end. */
export function testPathOf(red: string): string {
  return isOnDevices(red) ? `test/${red}.test` : `test/unit/${red}.test`;
}

/** Whether those tests attach loop devices and mount them: as root, one after the other. */
export function isOnDevices(red: string): boolean {
  return red.startsWith('integration/');
}

/** How often `text` stands in `source`. */
export function countOf(source: string, text: string): number {
  return source.split(text).length - 1;
}

/** The source with the defect in it. Throws when the row does not fit the source any more. */
export function mutated(source: string, { name, file, text, by }: Defect): string {
  const count = countOf(source, text);
  if (count !== 1) throw new Error(`${name}: its text stands ${count} times in src/${file}`);
  // Not `replace` with a string: a `$` in it would mean something.
  return source.split(text).join(by);
}

/** A piece of several lines. */
export function lines(...all: readonly string[]): string {
  return all.join('\n');
}
