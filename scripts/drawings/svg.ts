/** The few shapes that the drawings consist of. Lengths are in pixels. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Fill and border. Every drawing has its own light background, so that it is readable on a dark page too. */
export const colours = {
  application: ['#e8f1fb', '#2f6fb3'],
  kernel: ['#eef0f2', '#5f6b76'],
  driver: ['#fdf1dc', '#b5761a'],
  disk: ['#e9f5ea', '#3b8447'],
  plain: ['#ffffff', '#c3cad1'],
} as const;
export type Colour = keyof typeof colours;

const ink = '#1f2933';
const faintInk = '#52606d';

export function box(at: Box, colour: Colour): string {
  const [fill, border] = colours[colour];
  return `<rect x="${at.x}" y="${at.y}" width="${at.width}" height="${at.height}" rx="6" fill="${fill}" stroke="${border}" stroke-width="1.5"/>`;
}

export interface TextStyle {
  readonly size?: number;
  readonly bold?: boolean;
  readonly faint?: boolean;
  readonly code?: boolean;
  readonly anchor?: 'start' | 'middle' | 'end';
}

export function text(x: number, y: number, content: string, style: TextStyle = {}): string {
  const family =
    style.code === true
      ? 'ui-monospace, Menlo, Consolas, monospace'
      : 'system-ui, Segoe UI, Helvetica, Arial, sans-serif';
  const attributes = [
    `x="${x}" y="${y}"`,
    `font-family="${family}" font-size="${style.size ?? 14}"`,
    `fill="${style.faint === true ? faintInk : ink}"`,
    `text-anchor="${style.anchor ?? 'start'}"`,
    ...(style.bold === true ? ['font-weight="600"'] : []),
  ];
  return `<text ${attributes.join(' ')}>${escape(content)}</text>`;
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

export function arrow(from: Point, to: Point, dashed = false): string {
  const dashes = dashed ? ' stroke-dasharray="5 4"' : '';
  return `<line x1="${from.x}" y1="${from.y}" x2="${to.x}" y2="${to.y}" stroke="${faintInk}" stroke-width="1.5"${dashes} marker-end="url(#head)"/>`;
}

/** Returns the file. `title` is what a screen reader says. */
export function drawing(
  title: string,
  width: number,
  height: number,
  shapes: readonly string[],
): string {
  const head =
    '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse">' +
    `<path d="M0 0 8 4 0 8z" fill="${faintInk}"/></marker></defs>`;
  const background = `<rect width="${width}" height="${height}" rx="10" fill="#fbfcfd" stroke="#dde3e8"/>`;
  const open = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`;
  return `${[open, `<title>${escape(title)}</title>`, head, background, ...shapes, '</svg>'].join('\n')}\n`;
}

function escape(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
