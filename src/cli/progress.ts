/** One line on a terminal that says how far long work is; nothing in a pipe, nothing for quick work. */
import { formatSize } from './output.ts';
import type { Output, Terminal } from './terminal.ts';

export interface Progress {
  readonly doneBytes: bigint;
  readonly totalBytes: bigint;
}

/** Quick work is not worth a line that flickers. */
const quietMs = 400;
const redrawMs = 200;
const barWidth = 24;

/** The line as it is drawn; `undefined`: how far it is is not known. */
export function progressLine(
  what: string,
  progress: Progress | undefined,
  elapsedMs: number,
): string {
  const seconds = `${Math.floor(elapsedMs / 1000)} s`;
  if (progress === undefined || progress.totalBytes <= 0n) return `${what} … ${seconds}`;
  const { doneBytes, totalBytes } = progress;
  const done = doneBytes > totalBytes ? totalBytes : doneBytes;
  const percent = Number((done * 100n) / totalBytes);
  const filled = Math.floor((percent * barWidth) / 100);
  const bar = '#'.repeat(filled) + '-'.repeat(barWidth - filled);
  return `${what} [${bar}] ${percent} %, ${formatSize(done)} of ${formatSize(totalBytes)}, ${seconds}`;
}

/** A terminal that does not know its width says 0. */
function widthOf({ columns }: Output): number {
  return columns === undefined || columns === 0 ? 80 : columns;
}

/**
 * Runs `work` with a line about it, which is gone when it ends. `work` tells how far it is by `tell`, or `look` finds out; what
 * fails in `look` only leaves the line as it is.
 */
export async function withProgress<T>(
  terminal: Terminal,
  what: string,
  work: (tell: (progress: Progress) => void) => Promise<T>,
  look: () => Promise<Progress | undefined> = async () => undefined,
): Promise<T> {
  const stream = terminal.progressStream;
  if (stream === undefined) return work(() => undefined);
  const startedAtMs = performance.now();
  let progress: Progress | undefined;
  let isDrawn = false;
  const tell = (now: Progress | undefined): void => {
    if (now !== undefined) progress = now;
  };
  const timer = setInterval(() => {
    const elapsedMs = performance.now() - startedAtMs;
    if (elapsedMs < quietMs) return;
    look().then(tell, () => undefined);
    const line = progressLine(what, progress, elapsedMs).slice(0, widthOf(stream) - 1);
    stream.write(`\r\u001b[K${line}`);
    isDrawn = true;
  }, redrawMs);
  try {
    return await work(tell);
  } finally {
    clearInterval(timer);
    if (isDrawn) stream.write('\r\u001b[K');
  }
}
