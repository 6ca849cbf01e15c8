/** Tables as aligned columns. Only commands that print a table load this file: string-width takes 20 ms to load. */
import stringWidth from 'string-width';
import type { Column } from './output.ts';
import { printable } from './printable.ts';
import type { Terminal } from './terminal.ts';

/**
 * Formats rows as aligned columns. In a pipe, each row is one line, columns are two spaces apart and empty cells are '-', so
 * that awk can split it. On a terminal, `shrinks` columns are truncated to its width. If the table does not fit into a narrow
 * terminal, each row becomes a block with a line per column. `cutLines` instead truncates all lines that are too long.
 */
export function formatTable<T>(
  terminal: Terminal,
  rows: readonly T[],
  allColumns: readonly Column<T>[],
  { cutLines = false }: { readonly cutLines?: boolean } = {},
): string {
  const isForPeople = terminal.isInteractive;
  const columns = isForPeople
    ? allColumns.filter(
        ({ isOptional, text }) => isOptional !== true || rows.some((row) => text(row) !== ''),
      )
    : allColumns;
  const titles = columns.map(({ title }) => (isForPeople ? title : title.replaceAll(' ', '_')));
  const cells = rows.map((row) =>
    columns.map(({ text }) => printable(text(row)) || (isForPeople ? '' : '-')),
  );
  const needed = columns.map((_, i) =>
    [titles, ...cells].reduce((width, line) => Math.max(width, stringWidth(line[i] ?? '')), 0),
  );
  const widths = isForPeople ? fitWidths(needed, columns, terminal.columns) : needed;
  const isTooWide = totalWidth(widths) > terminal.columns;
  if (isForPeople && isTooWide && !cutLines && terminal.columns < narrowColumns) {
    return cells.map((cell) => formatBlock(terminal, titles, cell)).join('\n\n');
  }
  const format = (cellsOfLine: readonly string[]): string => {
    const line = cellsOfLine
      .map((cell, i) => fit(cell, widths[i] ?? 0, columns[i]?.align))
      .join('  ')
      .trimEnd();
    return cutLines && stringWidth(line) > terminal.columns
      ? truncate(line, terminal.columns)
      : line;
  };
  return [terminal.style('bold', format(titles)), ...cells.map(format)].join('\n');
}

/** Below this width, a line of most tables would continue on several lines of the terminal. */
const narrowColumns = 60;

function totalWidth(widths: readonly number[]): number {
  return widths.reduce((sum, width) => sum + width + 2, -2);
}

/** A row as lines of title and value, without empty values. Long values continue below their beginning. */
function formatBlock(
  terminal: Terminal,
  titles: readonly string[],
  cells: readonly string[],
): string {
  const indent = Math.max(...titles.map((title) => stringWidth(title))) + 2;
  const valueWidth = Math.max(minShrunkWidth, terminal.columns - indent);
  return titles
    .map((title, i) => ({ title, cell: cells[i] ?? '' }))
    .filter(({ cell }) => cell !== '')
    .map(({ title, cell }) => {
      const lines = wrapLine(cell, valueWidth);
      const head = terminal.style('bold', fit(title, indent, 'left'));
      return head + lines.join(`\n${' '.repeat(indent)}`);
    })
    .join('\n');
}

/** Breaks a line, which has no styles, where a terminal of this width does. */
export function wrapLine(line: string, width: number): readonly string[] {
  const lines = [''];
  let left = width;
  for (const { segment } of graphemes.segment(line)) {
    const segmentWidth = stringWidth(segment);
    if (segmentWidth > left) {
      lines.push('');
      left = width;
    }
    lines[lines.length - 1] += segment;
    left -= segmentWidth;
  }
  return lines;
}

const minShrunkWidth = 12;

/** Reduces the widths of the columns that shrink, the widest one first, until the line fits. */
function fitWidths<T>(
  needed: readonly number[],
  columns: readonly Column<T>[],
  available: number,
): readonly number[] {
  const widths = [...needed];
  let excess = totalWidth(widths) - available;
  while (excess > 0) {
    const shrinkable = widths
      .map((width, i) => ({ width, i }))
      .filter(({ width, i }) => columns[i]?.shrinks === true && width > minShrunkWidth)
      .sort((a, b) => b.width - a.width);
    const [widest, next] = shrinkable;
    if (widest === undefined) break;
    const floor = Math.max(minShrunkWidth, Math.min(next?.width ?? 0, widest.width - 1));
    const cut = Math.min(excess, widest.width - floor);
    widths[widest.i] = widest.width - cut;
    excess -= cut;
  }
  return widths;
}

/** Pads or truncates a text to a width. */
function fit(text: string, width: number, align: Column<never>['align']): string {
  const excess = stringWidth(text) - width;
  if (excess > 0) return truncate(text, width);
  const spaces = ' '.repeat(-excess);
  return align === 'right' ? spaces + text : text + spaces;
}

const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });

function truncate(text: string, width: number): string {
  // Without the segmenter, which takes most of the time of a long list.
  if (/^[ -~]*$/.test(text)) return `${text.slice(0, width - 1)}…`;
  let kept = '';
  let left = width - 1;
  for (const { segment } of graphemes.segment(text)) {
    const segmentWidth = stringWidth(segment);
    if (segmentWidth > left) break;
    left -= segmentWidth;
    kept += segment;
  }
  return `${kept}…${' '.repeat(left)}`;
}
