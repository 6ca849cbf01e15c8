/** A progress line on the terminal for long operations. */
import { formatSize } from './output.ts';
import type { Output, Terminal } from './terminal.ts';

export interface Progress {
  readonly doneBytes: bigint;
  readonly totalBytes: bigint;
}

/** Delay before the line appears. For shorter operations, it would only flicker. */
const initialDelayMs = 400;
const redrawMs = 200;
const barWidth = 24;

/** Formats the progress line. If the progress is unknown, it shows only the elapsed time. */
export function progressLine(
  activity: string,
  progress: Progress | undefined,
  elapsedMs: number,
): string {
  const seconds = `${Math.floor(elapsedMs / 1000)} s`;
  if (progress === undefined || progress.totalBytes <= 0n) return `${activity} … ${seconds}`;
  const { doneBytes, totalBytes } = progress;
  const done = doneBytes > totalBytes ? totalBytes : doneBytes;
  const percent = Number((done * 100n) / totalBytes);
  const filled = Math.floor((percent * barWidth) / 100);
  const bar = '#'.repeat(filled) + '-'.repeat(barWidth - filled);
  return `${activity} [${bar}] ${percent} %, ${formatSize(done)} of ${formatSize(totalBytes)}, ${seconds}`;
}

/** A terminal of unknown width reports 0 columns. */
function widthOf({ columns }: Output): number {
  return columns === undefined || columns === 0 ? 80 : columns;
}

/**
 * Runs `work` with a progress line, which is erased at the end. `work` reports its progress by calling `report`, or `poll` is
 * called for it; errors of `poll` are ignored.
 */
export async function withProgress<T>(
  terminal: Terminal,
  activity: string,
  work: (report: (progress: Progress) => void) => Promise<T>,
  poll: () => Promise<Progress | undefined> = async () => undefined,
): Promise<T> {
  const stream = terminal.progressStream;
  if (stream === undefined) return work(() => undefined);
  const startedAtMs = performance.now();
  let latest: Progress | undefined;
  let isDrawn = false;
  const report = (progress: Progress | undefined): void => {
    if (progress !== undefined) latest = progress;
  };
  const timer = setInterval(() => {
    const elapsedMs = performance.now() - startedAtMs;
    if (elapsedMs < initialDelayMs) return;
    poll().then(report, () => undefined);
    const line = progressLine(activity, latest, elapsedMs).slice(0, widthOf(stream) - 1);
    stream.write(`\r\u001b[K${line}`);
    isDrawn = true;
  }, redrawMs);
  try {
    return await work(report);
  } finally {
    clearInterval(timer);
    if (isDrawn) stream.write('\r\u001b[K');
  }
}
