import { fstatSync } from 'node:fs';
import { isatty } from 'node:tty';
import { type Logger, pino } from 'pino';
import { textFormatter } from './text-log.ts';

export type { Logger } from 'pino';

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

/** `auto` is text on a terminal and in systemd's journal, and JSON elsewhere. */
export const logFormats = ['auto', 'json', 'text'] as const;
export type LogFormat = (typeof logFormats)[number];

interface LogOptions {
  readonly level: LogLevel;
  /** Default: JSON. */
  readonly format?: LogFormat;
  /** The environment, which says whether the journal reads standard output, and whether colours are wanted. */
  readonly variables?: Variables;
}

const stdout = 1;

type Variables = Readonly<Record<string, string | undefined>>;

/** Whether the log is written as text for people, given the format of the options and the environment. */
export function isTextLog(format: LogFormat, variables: Variables): boolean {
  const isForPeople = (): boolean => isatty(stdout) || isJournal(variables['JOURNAL_STREAM']);
  return format === 'text' || (format === 'auto' && isForPeople());
}

/**
 * Creates the root logger, which writes to standard output. Fields with the option `csi_secret` are removed before a payload is
 * logged; the redact paths are a second safeguard.
 *
 * Fields: `problem` is the text of a failure that the driver handles. `err` is the error of a failure that it does not
 * expect, with stack and causes. Byte counts are bigints, which become JSON numbers.
 */
export function createLog({ level, format = 'json', variables = {} }: LogOptions): Logger {
  const settings = {
    level,
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: ['secrets', '*.secrets', 'request.secrets'],
  };
  // Synchronous, so that the last lines before a crash are not lost. The driver logs little enough for that.
  const output = pino.destination({ dest: stdout, sync: true });
  if (!isTextLog(format, variables)) return pino(settings, output);
  const isTerminal = isatty(stdout);
  const toText = textFormatter({
    isTerminal,
    // https://no-color.org
    isColored: isTerminal && (variables['NO_COLOR'] ?? '') === '' && variables['TERM'] !== 'dumb',
    isJournal: isJournal(variables['JOURNAL_STREAM']),
  });
  return pino(settings, { write: (line) => output.write(toText(line)) });
}

/** systemd.exec(5): device and inode of the stream to the journal. A child may have inherited the variable, with other streams. */
function isJournal(stream: string | undefined): boolean {
  if (stream === undefined) return false;
  const { dev: device, ino: inode } = fstatSync(stdout);
  return stream === `${device}:${inode}`;
}
