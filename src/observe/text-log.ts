/**
 * Formats the log for people: lines for a terminal, a file or the journal. pino-pretty would need as much code of ours (ADR 0018).
 */
import { styleText } from 'node:util';

interface TextStyle {
  readonly isTerminal: boolean;
  readonly isColored: boolean;
  /** The journal has its own time for each line, and reads the level from its beginning: sd-daemon(3). */
  readonly isJournal: boolean;
}

type Color = Parameters<typeof styleText>[0];

const levels: Readonly<Record<string, { readonly priority: number; readonly color: Color }>> = {
  trace: { priority: 7, color: 'dim' },
  debug: { priority: 7, color: 'dim' },
  info: { priority: 6, color: 'green' },
  warn: { priority: 4, color: 'yellow' },
  error: { priority: 3, color: 'red' },
  fatal: { priority: 2, color: 'red' },
};

/** Fields whose text completes the message. */
const explanations = ['problem', 'details', 'cause'] as const;

/** Returns a function that formats one JSON line of pino as text, which ends with a newline and may contain others. */
export function textFormatter(style: TextStyle): (json: string) => string {
  const paint = (color: Color, text: string): string =>
    style.isColored ? styleText(color, text, { validateStream: false }) : text;
  return (json) => {
    const { level: name, time, msg, err, config: _, ...fields } = parse(json);
    const { priority, color } = levels[String(name)] ?? { priority: 6, color: 'dim' as const };
    const label = paint(color, String(name).toUpperCase().padEnd(5));
    const start = style.isJournal ? `<${priority}>` : `${paint('dim', timeOf(time, style))} `;
    const message = [msg, ...explanations.map((key) => fields[key])].filter(isText).map(escaped);
    const rest = Object.entries(fields).filter(([key]) => !explanations.some((one) => one === key));
    const pairs = rest.map(([key, value]) => ` ${escaped(key)}=${valueOf(value)}`).join('');
    const lines = [`${label} ${message.join(': ')}${paint('dim', pairs)}`, ...stackOf(err)];
    return lines.map((line) => `${start}${line}\n`).join('');
  };
}

function parse(json: string): Readonly<Record<string, unknown>> {
  return JSON.parse(json) as Readonly<Record<string, unknown>>;
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';

/** The local time of day on a terminal, else the exact time. */
function timeOf(time: unknown, { isTerminal }: TextStyle): string {
  const text = String(time);
  return isTerminal ? (new Date(text).toTimeString().split(' ')[0] ?? text) : text;
}

/** A text of one word without quotes; any other value as JSON. */
function valueOf(value: unknown): string {
  const isWord = typeof value === 'string' && /^[^\s"'=]+$/.test(value);
  return escaped(isWord ? value : JSON.stringify(value));
}

/** The message of an unexpected error and the places where it passed, with those of its causes. */
function stackOf(err: unknown): readonly string[] {
  if (typeof err !== 'object' || err === null || !('stack' in err)) return [];
  return String(err.stack)
    .split('\n')
    .map((line) => `      ${escaped(line)}`);
}

/** Escapes control characters, so that a name cannot break a line or change the terminal's state. */
function escaped(text: string): string {
  return text.replaceAll(
    /\p{Cc}/gu,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}
