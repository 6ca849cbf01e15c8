import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

/**
 * Creates the root logger, which writes JSON lines to standard output. Fields with the option `csi_secret` are removed
 * before a payload is logged; the redact paths are a second safeguard.
 *
 * Fields: `problem` is the text of a failure that the driver handles. `err` is the error of a failure that it does not
 * expect, with stack and causes. Byte counts are bigints, which become JSON numbers.
 */
export function createLog(options: { level: LogLevel; toStderr?: boolean }): Logger {
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      redact: ['secrets', '*.secrets', 'request.secrets'],
    },
    // Synchronous, so that the last lines before a crash are not lost. The driver logs little enough for that.
    pino.destination({ dest: options.toStderr === true ? 2 : 1, sync: true }),
  );
}
