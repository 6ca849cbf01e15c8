/** What `loopcsi pool list` counts: how the space of a pool's filesystem is divided. */
import { arrow, box, type Colour, drawing, text } from './svg.ts';

interface Part {
  readonly name: string;
  readonly detail: string;
  /** Share of the filesystem, out of 100. */
  readonly share: number;
  readonly colour: Colour;
}

/** The example of docs/operations.md: a filesystem of 100 GiB. */
const parts: readonly Part[] = [
  { name: 'other files', detail: '10', share: 13, colour: 'kernel' },
  { name: 'reserve', detail: '5', share: 10, colour: 'plain' },
  {
    name: 'promised to volumes',
    detail: '40, of which 15 are written',
    share: 40,
    colour: 'application',
  },
  { name: 'snapshots', detail: '8', share: 12, colour: 'application' },
  { name: 'capacity', detail: '37', share: 28, colour: 'disk' },
];
const left = 24;
const width = 760;
const top = 92;
const height = 58;

export function capacityDrawing(): string {
  let x = left;
  const shapes = [
    text(left, 34, 'A pool on a filesystem of 100 GiB, without overcommit', { bold: true }),
    text(left, 56, 'Sizes in GiB. Bytes that were promised stay reserved, written or not.', {
      faint: true,
      size: 13,
    }),
  ];
  for (const part of parts) {
    const share = (width * part.share) / 100;
    shapes.push(...partShapes(part, x, share));
    x += share;
  }
  const newVolume = left + width * 0.84;
  shapes.push(
    arrow({ x: newVolume, y: top + height + 42 }, { x: newVolume, y: top + height + 4 }),
    text(newVolume, top + height + 60, 'a new volume may have at most 37 GiB', {
      anchor: 'middle',
      size: 13,
    }),
    text(left, top + height + 60, 'df shows 67 GiB free: 15 + 8 + 10 are used', {
      size: 13,
      faint: true,
    }),
  );
  return drawing('What the capacity of a pool is', left * 2 + width, top + height + 84, shapes);
}

function partShapes(part: Part, x: number, share: number): readonly string[] {
  const middle = x + share / 2;
  return [
    box({ x: x + 1, y: top, width: share - 2, height }, part.colour),
    text(middle, top + 25, part.name, { anchor: 'middle', size: 13, bold: true }),
    text(middle, top + 44, part.detail, { anchor: 'middle', size: 12, faint: true }),
  ];
}
