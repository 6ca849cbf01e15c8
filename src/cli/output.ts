/** Output formats: fields for people, JSON, YAML and names for programs. Tables are in table.ts. */
import { formatBytes, formatExactBytes } from '../units.ts';
import { UsageError } from './errors.ts';
import { printable, shellWordOf } from './printable.ts';
import type { Terminal } from './terminal.ts';

/** Formats of `--output`. `wide` is a table with more columns, `name` prints the names only. */
export const outputFormats = ['table', 'wide', 'json', 'yaml', 'name'] as const;
export type OutputFormat = (typeof outputFormats)[number];

/** Formats a measured size with at most one decimal: `10Gi`, `1.5Gi`. */
export function formatSize(bytes: bigint): string {
  return asFlagValue(formatBytes(bytes));
}

/**
 * Formats a promised size in the largest unit of which it is a multiple: `1500Mi` stays `1500Mi`. The text can be used as a
 * value of --size.
 */
export function formatPromisedSize(bytes: bigint): string {
  return asFlagValue(formatExactBytes(bytes));
}

function asFlagValue(text: string): string {
  return text.replace(' ', '').replace(/iB$/, 'i').replace(/B$/, '');
}

/** One column of a list. Its title in lower case, with `-` for spaces, is its name for --sort. */
export interface Column<T> {
  readonly title: string;
  readonly align?: 'left' | 'right';
  readonly text: (row: T) => string;
  /** The value that --sort compares; by default the text. */
  readonly sortBy?: (row: T) => string | number | bigint;
  /** Shown with `--output wide` only. */
  readonly isWide?: boolean;
  /** Left out on a terminal if it is empty for all rows. In a pipe, columns do not depend on the rows. */
  readonly isOptional?: boolean;
  /** Truncated if the table is wider than the terminal. */
  readonly shrinks?: boolean;
}

/** The columns of promised and measured sizes. */
export const sizeColumns: readonly Column<{
  readonly size_bytes: bigint;
  readonly allocated_bytes: bigint;
}>[] = [
  {
    title: 'SIZE',
    align: 'right',
    text: ({ size_bytes }) => formatPromisedSize(size_bytes),
    sortBy: ({ size_bytes }) => size_bytes,
  },
  {
    title: 'ALLOCATED',
    align: 'right',
    text: ({ allocated_bytes }) => formatSize(allocated_bytes),
    sortBy: ({ allocated_bytes }) => allocated_bytes,
  },
];

/** Byte counts become JSON numbers, or strings above 2^53 - 1, where a number would lose precision. */
function jsonValue(_key: string, item: unknown): unknown {
  if (typeof item !== 'bigint') return item;
  return item <= BigInt(Number.MAX_SAFE_INTEGER) && item >= BigInt(Number.MIN_SAFE_INTEGER)
    ? Number(item)
    : item.toString();
}

export function toJson(value: unknown): string {
  return JSON.stringify(value, jsonValue, 2);
}

/** The same on one line, for streams of JSON values. */
export function toJsonLine(value: unknown): string {
  return JSON.stringify(value, jsonValue);
}

/** YAML with the keys and values of `toJson`. */
export async function toYaml(value: unknown): Promise<string> {
  const { stringify } = await import('yaml');
  return stringify(JSON.parse(toJsonLine(value))).trimEnd();
}

/**
 * The names of the results, one a line. A name that is not one word in a shell is replaced by the id, which every command
 * accepts too. Throws `UsageError` if the result has no name.
 */
export function toNames(value: unknown): string {
  const rows: readonly unknown[] = Array.isArray(value) ? value : [value];
  return rows.map(nameOf).join('\n');
}

function nameOf(row: unknown): string {
  if (typeof row !== 'object' || row === null || !('name' in row) || typeof row.name !== 'string') {
    throw new UsageError('--output name: the result of this command has no name');
  }
  const id = 'id' in row && typeof row.id === 'string' ? row.id : printable(row.name);
  return shellWordOf({ name: row.name, id });
}

/** Formats fields as lines of `Name:  value`. Empty fields are omitted, and each of several values has its own line. */
export function formatFields(
  terminal: Terminal,
  fields: readonly (readonly [name: string, value: string | readonly string[]])[],
): string {
  const shown = fields.filter(([, value]) => value.length > 0);
  const width = Math.max(...shown.map(([name]) => name.length)) + 3;
  return shown
    .map(([name, value]) => {
      const head = terminal.style('bold', `${name}:`) + ' '.repeat(width - name.length - 1);
      const lines = (typeof value === 'string' ? [value] : value).map(printable);
      return head + lines.join(`\n${' '.repeat(width)}`);
    })
    .join('\n');
}

/** Formats a count with its noun: `1 volume`, `2 volumes`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
