import { createInterface } from 'node:readline/promises';
import type { Readable, Writable } from 'node:stream';
import { styleText } from 'node:util';
import { UsageError } from './errors.ts';

/** A stream that may be a terminal. */
export type Output = Writable & { readonly isTTY?: boolean; readonly columns?: number };
export type Input = Readable & { readonly isTTY?: boolean };

export interface Streams {
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
}

type Style = 'bold' | 'dim' | 'red' | 'yellow' | 'green';

/** Where commands read and write: pleasant for a person, plain in a pipe. */
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

  /** Whether a person reads what is printed. */
  get isInteractive(): boolean {
    return this.#streams.stdout.isTTY === true;
  }

  get columns(): number {
    return this.#streams.stdout.columns || 80;
  }

  style(style: Style, text: string): string {
    return this.#isColored ? styleText(style, text, { validateStream: false }) : text;
  }

  /** Results: one line, or several, to standard output. */
  print(text: string): void {
    this.#streams.stdout.write(`${text}\n`);
  }

  /** What is said besides the result, to standard error. */
  note(text: string): void {
    this.#streams.stderr.write(`${text}\n`);
  }

  /** For progress: a stream that is a terminal, or undefined. */
  get progressStream(): Output | undefined {
    return this.#streams.stderr.isTTY === true ? this.#streams.stderr : undefined;
  }

  /**
   * Asks a person, who is told first what it is about. Throws `UsageError` where nobody can answer, and then nothing has been
   * done or said. Anything but yes is no.
   */
  async confirm(question: string, about: readonly string[]): Promise<boolean> {
    const { stdin, stderr } = this.#streams;
    if (stdin.isTTY !== true || stderr.isTTY !== true) {
      throw new UsageError(`${question} There is no terminal to ask on; say --yes to do it`);
    }
    for (const line of about) this.note(line);
    const reader = createInterface({ input: stdin, output: stderr });
    try {
      const answer = await reader.question(`${question} [y/N] `);
      return /^y(?:es)?$/i.test(answer.trim());
    } finally {
      reader.close();
    }
  }
}
