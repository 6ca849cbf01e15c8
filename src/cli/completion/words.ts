/** The words of a command line, as a shell passes them to `complete`. */

/** A command line up to the cursor. */
export interface TypedLine {
  /** The words before the cursor's word. */
  readonly before: readonly string[];
  /** The beginning of the word at the cursor. */
  readonly current: string;
  /** Number of characters of `current` that the shell does not replace. */
  readonly keptLength: number;
}

/** The characters of COMP_WORDBREAKS that need no quotes in a word. */
const wordBreaks = /^[=:@]+$/;

/**
 * bash splits words at `=`, `:` and `@`, and completes only the part after them: `--size=1` arrives as `--size`, `=`, `1`. Spaces
 * around these characters are not known any more, but no argument is one of them, and few begin with one.
 */
export function joinBashWords(words: readonly string[]): TypedLine {
  const joined: string[] = [];
  let isOpen = false;
  for (const word of words) {
    const isBreak = wordBreaks.test(word);
    const last = joined.at(-1);
    if (last !== undefined && (isBreak || isOpen)) joined[joined.length - 1] = last + word;
    else joined.push(word);
    isOpen = isBreak;
  }
  const current = joined.at(-1) ?? '';
  const part = words.at(-1) ?? '';
  const keptLength = wordBreaks.test(part) ? current.length : current.length - part.length;
  return { before: joined.slice(0, -1), current, keptLength };
}

export function typedLine(words: readonly string[]): TypedLine {
  return { before: words.slice(0, -1), current: words.at(-1) ?? '', keptLength: 0 };
}
