import type { Logger } from './observe/log.ts';

/** Exit code if stopping failed, or if a second signal ended the process early. */
const failureExitCode = 1;

/**
 * Under npm, Ctrl-C arrives twice, from the terminal and from npm. A signal within this time counts as the same one.
 */
const sameSignalMs = 500;

/**
 * Makes SIGTERM and SIGINT stop the driver and end the process with exit code 0; a second, later signal ends it
 * immediately. Call this directly after logging 'serving', without an await in between: a process that reads that line
 * may send a signal at once. `endProcess` ends the process even if threads hang in the kernel, for which process.exit()
 * alone would wait.
 */
export function stopOnSignals(
  running: { stop(): Promise<void> },
  { log, endProcess }: { log: Logger; endProcess: (code: number) => void },
): void {
  process.on('exit', endProcess);
  let stoppingAtMs: number | undefined;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (stoppingAtMs !== undefined) {
        if (performance.now() - stoppingAtMs > sameSignalMs) process.exit(failureExitCode);
        return;
      }
      stoppingAtMs = performance.now();
      log.info({ signal }, 'stopping');
      running.stop().then(
        () => {
          log.info('stopped');
          process.exit(0);
        },
        (error: unknown) => {
          log.fatal({ err: error }, 'stopping failed');
          process.exit(failureExitCode);
        },
      );
    });
  }
}
