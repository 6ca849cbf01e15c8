/** Output formats: tables and fields on a terminal, aligned columns in a pipe, JSON for programs. */
import type { Table as CliTable } from 'cli-table3';
import { formatBytes } from '../units.ts';
import type { Terminal } from './terminal.ts';

/** Formats a size in the syntax of --size, so that it can be copied into a command: `10Gi`, `512Mi`, `1.5Gi`. */
export function formatSize(bytes: bigint): string {
  return formatBytes(bytes).replace(/ /, '').replace(/iB$/, 'i').replace(/B$/, '');
}

export interface Column<T> {
  readonly title: string;
  readonly align?: 'left' | 'right';
  readonly text: (row: T) => string;
}

/** Byte counts become JSON numbers, or strings above 2^53 - 1, where a number would lose precision. */
export function toJson(value: unknown): string {
  return JSON.stringify(
    value,
    (_key, item: unknown) => {
      if (typeof item !== 'bigint') return item;
      return item <= BigInt(Number.MAX_SAFE_INTEGER) && item >= BigInt(Number.MIN_SAFE_INTEGER)
        ? Number(item)
        : item.toString();
    },
    2,
  );
}

/**
 * Formats rows as a table. In a pipe, each row is one line, columns are two spaces apart and empty cells are '-', so that awk
 * can split it.
 */
export async function formatTable<T>(
  terminal: Terminal,
  rows: readonly T[],
  columns: readonly Column<T>[],
): Promise<string> {
  const cells = rows.map((row) => columns.map(({ text }) => text(row)));
  if (!terminal.isInteractive) return alignedText(cells, columns);
  const { default: Table } = await import('cli-table3');
  const table: CliTable = new Table({
    head: columns.map(({ title }) => terminal.style('bold', title)),
    colAligns: columns.map(({ align }) => align ?? 'left'),
    style: { head: [], border: [], compact: true, 'padding-left': 0, 'padding-right': 2 },
    chars: noBorders,
  });
  table.push(...cells);
  return trimEnds(table.toString());
}

const borders =
  'top top-mid top-left top-right bottom bottom-mid bottom-left bottom-right left left-mid mid mid-mid right right-mid middle';
const noBorders = Object.fromEntries(borders.split(' ').map((border) => [border, '']));

function alignedText<T>(
  cells: readonly (readonly string[])[],
  columns: readonly Column<T>[],
): string {
  const lines = [
    columns.map(({ title }) => title.replaceAll(' ', '_')),
    ...cells.map((row) => row.map((cell) => (cell === '' ? '-' : cell))),
  ];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  const text = lines.map((line) =>
    line
      .map((cell, i) =>
        columns[i]?.align === 'right' ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0),
      )
      .join('  '),
  );
  return trimEnds(text.join('\n'));
}

function trimEnds(text: string): string {
  return text
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
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
      const lines = typeof value === 'string' ? [value] : value;
      return head + lines.join(`\n${' '.repeat(width)}`);
    })
    .join('\n');
}

/** Formats a count with its noun: `1 volume`, `2 volumes`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
