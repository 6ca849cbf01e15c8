import { fstatSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import type { Readable, Writable } from 'node:stream';
import { styleText } from 'node:util';
import { UsageError } from './errors.ts';

/** A stream that may be a terminal. */
export type Output = Writable & {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
};
type Input = Readable & { readonly isTTY?: boolean };

export interface Streams {
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
}

type Style = 'bold' | 'dim' | 'red' | 'yellow' | 'green';

/** Input and output of a command: colours and prompts on a terminal, plain text in a pipe. */
export class Terminal {
  readonly #streams: Streams;
  readonly #isColored: boolean;

  constructor(streams: Streams, environment: Readonly<Record<string, string | undefined>>) {
    this.#streams = streams;
    // https://no-color.org
    this.#isColored =
      streams.stdout.isTTY === true &&
      (environment['NO_COLOR'] ?? '') === '' &&
      environment['TERM'] !== 'dumb';
  }

  /** Whether standard output is a terminal. */
  get isInteractive(): boolean {
    return this.#streams.stdout.isTTY === true;
  }

  get columns(): number {
    return this.#streams.stdout.columns || 80;
  }

  style(style: Style, text: string): string {
    return this.#isColored ? styleText(style, text, { validateStream: false }) : text;
  }

  /** Writes results to standard output. */
  print(text: string): void {
    this.#streams.stdout.write(`${text}\n`);
  }

  /**
   * Replaces the content of the terminal by this text, of which it keeps the lines that fit. The caller limits their width. In a
   * pipe, writes the text after the previous one.
   */
  redraw(text: string): void {
    if (!this.isInteractive) {
      this.print(text);
      return;
    }
    const lines = text.split('\n');
    const maxLines = Math.max(2, (this.#streams.stdout.rows || 24) - 1);
    const shown =
      lines.length <= maxLines
        ? lines
        : [...lines.slice(0, maxLines - 1), `… ${lines.length - maxLines + 1} more lines`];
    // Each line is cleared before it is written: after a line of the full width, some terminals would clear its last character.
    this.#streams.stdout.write(
      `\u001b[H${shown.map((line) => `\u001b[K${line}\n`).join('')}\u001b[J`,
    );
  }

  /** Writes anything other than results to standard error. */
  printError(text: string): void {
    this.#streams.stderr.write(`${text}\n`);
  }

  /** Standard input as data. Throws `UsageError` if it is a terminal. */
  input(): AsyncIterable<Uint8Array> {
    const { stdin } = this.#streams;
    if (stdin.isTTY !== true) return stdin as AsyncIterable<Uint8Array>;
    throw new UsageError('standard input is a terminal: redirect it from a file or a pipe');
  }

  /** The size of the file from which standard input is redirected; undefined for a pipe. */
  inputFileBytes(): bigint | undefined {
    const { stdin } = this.#streams;
    if (!('fd' in stdin) || typeof stdin.fd !== 'number') return undefined;
    const stats = fstatSync(stdin.fd, { bigint: true });
    return stats.isFile() ? stats.size : undefined;
  }

  /** Standard output for data. Throws `UsageError` if it is a terminal. */
  dataOutput(): Writable {
    const { stdout } = this.#streams;
    if (stdout.isTTY !== true) return stdout;
    throw new UsageError('standard output is a terminal: redirect it to a file or a pipe');
  }

  /** The stream for progress lines: standard error if it is a terminal, else undefined. */
  get progressStream(): Output | undefined {
    return this.#streams.stderr.isTTY === true ? this.#streams.stderr : undefined;
  }

  /**
   * Prints the explanation and asks for confirmation. Any answer except y or yes means no. Throws `UsageError`, before it
   * prints anything, if there is no terminal.
   */
  async confirm(question: string, explanation: readonly string[]): Promise<boolean> {
    const { stdin, stderr } = this.#streams;
    if (stdin.isTTY !== true || stderr.isTTY !== true) {
      throw new UsageError(`${question} There is no terminal to ask on; confirm with --yes`);
    }
    for (const line of explanation) this.printError(line);
    const reader = createInterface({ input: stdin, output: stderr });
    try {
      const answer = await reader.question(`${question} [y/N] `);
      return /^y(?:es)?$/i.test(answer.trim());
    } finally {
      reader.close();
    }
  }
}
