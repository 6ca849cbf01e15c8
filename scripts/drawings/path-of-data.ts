/** From a pod or container to the disk: what a volume consists of, and what the driver does. */
import { arrow, box, type Colour, drawing, text } from './svg.ts';

interface Layer {
  readonly title: string;
  readonly detail: string;
  readonly colour: Colour;
}

const layers: readonly Layer[] = [
  { title: 'pod or container', detail: '/data', colour: 'application' },
  { title: 'bind mount', detail: 'target path of the pod', colour: 'kernel' },
  {
    title: 'filesystem: ext4, XFS, btrfs',
    detail: 'mounted at the staging path',
    colour: 'kernel',
  },
  { title: 'loop device with direct I/O', detail: '/dev/loop7', colour: 'kernel' },
  {
    title: 'image file, exactly as large as promised',
    detail: 'POOL/volumes/ID/disk.img',
    colour: 'disk',
  },
  {
    title: 'pool: any directory of the node',
    detail: '/var/lib/loopcsi/pools/default',
    colour: 'disk',
  },
];
const left = 24;
const layerWidth = 350;
const layerHeight = 54;
const pitch = 76;
const top = 52;
const height = top + layers.length * pitch + 4;

const clients: readonly string[] = [
  'Kubernetes, Nomad, Swarm: CSI 1.13',
  'Docker, Compose, podman: volume plugin',
  'loopcsi volume …: command line',
];
const driverAt = { x: 470, y: top + pitch, width: 300, height: 3 * pitch + layerHeight };

export function pathOfDataDrawing(): string {
  const shapes = [
    text(left, 32, 'Path of the data: only the kernel', { bold: true, faint: true }),
    text(driverAt.x, 32, 'The driver: only for changes', { bold: true, faint: true }),
    ...layers.flatMap(layerShapes),
    ...driverShapes(),
  ];
  return drawing('How loopcsi stores a volume', 794, height, shapes);
}

function layerShapes({ title, detail, colour }: Layer, index: number): readonly string[] {
  const y = top + index * pitch;
  const middle = left + layerWidth / 2;
  const isLast = index === layers.length - 1;
  return [
    box({ x: left, y, width: layerWidth, height: layerHeight }, colour),
    text(middle, y + 23, title, { anchor: 'middle', bold: true }),
    text(middle, y + 42, detail, { anchor: 'middle', size: 12, faint: true, code: true }),
    ...(isLast ? [] : [arrow({ x: middle, y: y + layerHeight }, { x: middle, y: y + pitch })]),
  ];
}

function driverShapes(): readonly string[] {
  const { x, y, width } = driverAt;
  const middle = x + width / 2;
  const clientY = top;
  const steps = [
    'creates, grows, snapshots, deletes',
    'attaches, mounts, freezes, trims',
    'recovers after a crash',
    'reports health and metrics',
  ];
  return [
    ...clients.map((line, index) =>
      text(middle, clientY + 6 + index * 20, line, { anchor: 'middle', size: 13 }),
    ),
    arrow({ x: middle, y: clientY + 54 }, { x: middle, y }),
    box(driverAt, 'driver'),
    text(middle, y + 32, 'loopcsi serve', { anchor: 'middle', bold: true, size: 16 }),
    ...steps.map((line, index) =>
      text(middle, y + 66 + index * 24, line, { anchor: 'middle', size: 13, faint: true }),
    ),
    text(middle, y + 190, 'If it stops or is killed,', { anchor: 'middle', size: 13, bold: true }),
    text(middle, y + 210, 'mounted volumes keep working.', {
      anchor: 'middle',
      size: 13,
      bold: true,
    }),
    ...[1, 2, 3, 4].map((layer) => {
      const at = top + layer * pitch + layerHeight / 2;
      return arrow({ x, y: at }, { x: left + layerWidth, y: at }, true);
    }),
  ];
}
