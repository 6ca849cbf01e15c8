/** What the lines mean that a machine writes: its own on the second serial port, among the job's output, and the kernel's on the first. */

/** How lines begin that are the machine's own, and no output of a job. */
export const ownLine = 'loopcsi-vm: ';

/** What a line of the second port says of the job; undefined: it is the job's output. */
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

export function progressOf(line: string): Progress | undefined {
  if (!line.startsWith(ownLine)) return undefined;
  const said = line.slice(ownLine.length);
  const [, kernel, seconds] = /^up (\S+) after ([\d.]+) s$/.exec(said) ?? [];
  if (kernel !== undefined) return { kind: 'up', kernel, seconds: Number(seconds) };
  const exitCode = /^job ended with (\d+)$/.exec(said)?.[1];
  return exitCode === undefined ? undefined : { kind: 'ended', exitCode: Number(exitCode) };
}

/** The first line of the kernel that says that it cannot go on, or that it went wrong inside. */
export function findCrash(consoleText: string): string | undefined {
  return consoleText
    .split(/\r?\n/)
    .find((line) =>
      /Kernel panic - not syncing|\bBUG: |\bOops: |\bgeneral protection fault\b/.test(line),
    );
}

/** Cuts a stream of text into lines; a serial port ends them with a carriage return, too. */
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

  /** What came after the last end of a line. */
  end(): void {
    if (this.#rest !== '') this.#take(this.#rest);
    this.#rest = '';
  }
}
