import type { Logger } from './observe/log.ts';

/** Exit code when stopping failed, or was cut short. */
const failed = 1;

/** Ctrl-C reaches the driver from the terminal and from npm: that is one wish, not two. */
const sameSignalMs = 500;

/**
 * SIGTERM and SIGINT stop what runs and end the process with 0; a second one that comes later ends it at once. To be called
 * right behind the word that it serves, with nothing awaited in between: whoever reads that may end it at once. `endProcess`
 * does not wait for threads that hang in the kernel, as process.exit() alone does.
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
        if (performance.now() - stoppingAtMs > sameSignalMs) process.exit(failed);
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
          process.exit(failed);
        },
      );
    });
  }
}
