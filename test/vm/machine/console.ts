/** The lines that a machine writes: its own, between the job's output, on the second serial port; the kernel's on the first. */

/** The prefix of the machine's own lines, which are not output of the job. */
export const ownLine = 'loopcsi-vm: ';

/** The progress that a line of the second port reports. */
export type Progress =
  | { readonly kind: 'up'; readonly kernel: string; readonly seconds: number }
  | { readonly kind: 'ended'; readonly exitCode: number };

/** `seconds` since the kernel started. */
export function upLine(kernel: string, seconds: number): string {
  return `${ownLine}up ${kernel} after ${seconds.toFixed(1)} s`;
}

export function endedLine(exitCode: number): string {
  return `${ownLine}job ended with ${exitCode}`;
}

/** Undefined for a line of the job's output. */
export function progressOf(line: string): Progress | undefined {
  if (!line.startsWith(ownLine)) return undefined;
  const text = line.slice(ownLine.length);
  const [, kernel, seconds] = /^up (\S+) after ([\d.]+) s$/.exec(text) ?? [];
  if (kernel !== undefined) return { kind: 'up', kernel, seconds: Number(seconds) };
  const exitCode = /^job ended with (\d+)$/.exec(text)?.[1];
  return exitCode === undefined ? undefined : { kind: 'ended', exitCode: Number(exitCode) };
}

/** The first line of the kernel that reports a panic, or a bug of the kernel. */
export function findCrash(consoleText: string): string | undefined {
  return consoleText
    .split(/\r?\n/)
    .find((line) =>
      /Kernel panic - not syncing|\bBUG: |\bOops: |\bgeneral protection fault\b/.test(line),
    );
}

/** Splits a stream of text into lines; on a serial port they also end with a carriage return. */
export class Lines {
  readonly #take: (line: string) => void;
  #rest = '';

  constructor(take: (line: string) => void) {
    this.#take = take;
  }

  add(text: string): void {
    const lines = `${this.#rest}${text}`.split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#take(line.replace(/\r+$/, ''));
  }

  /** Passes on the text after the last line break. */
  end(): void {
    if (this.#rest !== '') this.#take(this.#rest);
    this.#rest = '';
  }
}
