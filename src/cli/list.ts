/** The flags and the output of every command that lists objects. */

import { setTimeout as delay } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { type Column, toJson, toJsonLine, toNames, toYaml } from './output.ts';
import type { Session } from './session.ts';

export interface ListOptions {
  readonly sort?: string;
  readonly reverse?: boolean;
  readonly watch?: boolean;
  readonly quiet?: boolean;
  /** Time between two looks of --watch, for tests. */
  readonly intervalMs?: number;
}

/** A list that a command prints, as a table or for programs. */
export interface Listing<T> {
  readonly load: () => Promise<readonly T[]>;
  readonly columns: readonly Column<T>[];
  /** The JSON object of a row; its `name` and `id` are the output of `--output name`. */
  readonly asJson: (row: T) => object;
  /** Printed on a terminal in place of an empty table. */
  readonly whenEmpty: string;
  /** Warnings, which are printed below the table. */
  readonly remarks?: (rows: readonly T[]) => readonly string[];
}

const watchIntervalMs = 2_000;

/** Adds --sort with the names of the columns, --reverse, --watch and --quiet. */
export function addListOptions<T>(command: Command, columns: readonly Column<T>[]): Command {
  return addSortOptions(command, columns)
    .option('-w, --watch', 'print the list again whenever it changes, until interrupted')
    .option('-q, --quiet', 'print only the names, one a line, as with --output name');
}

/** Adds --sort with the names of the columns, and --reverse. */
export function addSortOptions<T>(command: Command, columns: readonly Column<T>[]): Command {
  return command
    .addOption(
      new Option('--sort <COLUMN>', 'sort by this column').choices(columns.map(columnName)),
    )
    .option('-r, --reverse', 'list in reverse order');
}

function columnName<T>({ title }: Column<T>): string {
  return title.toLowerCase().replaceAll(' ', '-');
}

/** Prints a list once, or with --watch until the process is interrupted. */
export async function showList<T>(
  session: Session,
  listing: Listing<T>,
  options: ListOptions,
): Promise<void> {
  const load = async (): Promise<readonly T[]> =>
    sortRows(await listing.load(), listing.columns, options);
  const format = (rows: readonly T[]) => formatRows(session, listing, rows, options);
  const { terminal } = session;
  if (options.watch !== true) {
    const text = await format(await load());
    if (text !== '') terminal.print(text);
    return;
  }
  let shown: string | undefined;
  for (;;) {
    const text = await format(await load());
    if (text !== shown) terminal.redraw(text);
    shown = text;
    await delay(options.intervalMs ?? watchIntervalMs);
  }
}

async function formatRows<T>(
  session: Session,
  { columns, asJson, whenEmpty, remarks }: Listing<T>,
  rows: readonly T[],
  { quiet, watch }: ListOptions,
): Promise<string> {
  const { terminal } = session;
  const format = quiet === true ? 'name' : session.format;
  switch (format) {
    case 'json':
      return watch === true ? toJsonLine(rows.map(asJson)) : toJson(rows.map(asJson));
    case 'yaml':
      return `${watch === true ? '---\n' : ''}${await toYaml(rows.map(asJson))}`;
    case 'name':
      return toNames(rows.map(asJson));
    case 'table':
    case 'wide': {
      if (rows.length === 0 && terminal.isInteractive) return whenEmpty;
      const { formatTable, wrapLine } = await import('./table.ts');
      const shown = columns.filter(({ isWide }) => format === 'wide' || isWide !== true);
      // A redraw counts lines, so none may continue on the next line of the terminal.
      const cutLines = watch === true && terminal.isInteractive;
      const below = (remarks?.(rows) ?? []).flatMap((line) =>
        cutLines ? wrapLine(line, terminal.columns) : [line],
      );
      const table = formatTable(terminal, rows, shown, { cutLines });
      return [table, ...below.map((line) => terminal.style('yellow', line))].join('\n');
    }
  }
}

/** Sorts by the column of --sort. Equal rows keep the order of the driver. */
export function sortRows<T>(
  rows: readonly T[],
  columns: readonly Column<T>[],
  { sort, reverse }: ListOptions,
): readonly T[] {
  const column = columns.find((one) => columnName(one) === sort);
  const sorted = column === undefined ? rows : rows.toSorted((a, b) => compareBy(column, a, b));
  return reverse === true ? sorted.toReversed() : sorted;
}

function compareBy<T>({ text, sortBy = text }: Column<T>, a: T, b: T): number {
  const [left, right] = [sortBy(a), sortBy(b)];
  if (typeof left === 'string' && typeof right === 'string') {
    return left.localeCompare(right, 'en', { numeric: true });
  }
  return left < right ? -1 : Number(left > right);
}
