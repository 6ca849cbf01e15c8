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
/** A rate over a shorter time would jump. */
const minRateMs = 1_000;

/**
 * Formats the progress line. If the progress is unknown, it shows only the elapsed time. `rate` is in bytes per second; with it,
 * the line shows the time left instead.
 */
export function progressLine(
  activity: string,
  progress: Progress | undefined,
  elapsedMs: number,
  rate?: number,
): string {
  const seconds = `${Math.floor(elapsedMs / 1000)} s`;
  if (progress === undefined || progress.totalBytes <= 0n) return `${activity} … ${seconds}`;
  const { doneBytes, totalBytes } = progress;
  const done = doneBytes > totalBytes ? totalBytes : doneBytes;
  const percent = Number((done * 100n) / totalBytes);
  const filled = Math.floor((percent * barWidth) / 100);
  const bar = '#'.repeat(filled) + '-'.repeat(barWidth - filled);
  const amount = `${activity} [${bar}] ${percent} %, ${formatSize(done)} of ${formatSize(totalBytes)}`;
  if (rate === undefined || rate < 1) return `${amount}, ${seconds}`;
  const left = formatDuration(Number(totalBytes - done) / rate);
  return `${amount}, ${formatSize(BigInt(Math.floor(rate)))}/s, ${left} left`;
}

/** Formats a duration in seconds: `40 s`, `12 min`, `3 h 5 min`. */
function formatDuration(seconds: number): string {
  if (seconds < 100) return `${Math.ceil(seconds)} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** The mean rate of a copy in bytes per second, from its first report: a resumed copy does not begin at 0. */
class CopyRate {
  #first: { readonly doneBytes: bigint; readonly atMs: number } | undefined;

  /** Returns undefined while the rate is unknown. */
  at({ doneBytes }: Progress, nowMs: number): number | undefined {
    this.#first ??= { doneBytes, atMs: nowMs };
    const elapsedMs = nowMs - this.#first.atMs;
    const copied = Number(doneBytes - this.#first.doneBytes);
    return elapsedMs < minRateMs || copied <= 0 ? undefined : (copied * 1000) / elapsedMs;
  }
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
  const copyRate = new CopyRate();
  let isDrawn = false;
  const report = (progress: Progress | undefined): void => {
    if (progress !== undefined) latest = progress;
  };
  const timer = setInterval(() => {
    const elapsedMs = performance.now() - startedAtMs;
    if (elapsedMs < initialDelayMs) return;
    poll().then(report, () => undefined);
    const rate = latest === undefined ? undefined : copyRate.at(latest, performance.now());
    const line = progressLine(activity, latest, elapsedMs, rate).slice(0, widthOf(stream) - 1);
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
