/** The icon of the chart: a disk inside a loop. */
import { colours, drawing } from './svg.ts';

const size = 256;
const centre = size / 2;

/** A ring with a gap at the top right, which ends in an arrow head. */
function loop(): string {
  const radius = 96;
  const [, border] = colours.driver;
  const at = (degrees: number): string => {
    const angle = (degrees * Math.PI) / 180;
    const x = centre + radius * Math.cos(angle);
    const y = centre + radius * Math.sin(angle);
    return `${x.toFixed(1)} ${y.toFixed(1)}`;
  };
  const ring = `<path d="M${at(-20)}A${radius} ${radius} 0 1 1 ${at(-72)}" fill="none" stroke="${border}" stroke-width="18" stroke-linecap="round"/>`;
  const head = `<path d="M-4 -25 30 0 -4 25z" fill="${border}" transform="translate(${at(-68)}) rotate(20)"/>`;
  return ring + head;
}

/** A disk of two layers. */
function disk(): string {
  const [fill, border] = colours.disk;
  const [left, right, top, layer] = [centre - 48, centre + 48, centre - 34, 34];
  const ellipse = 'a48 17 0 0 0 96 0';
  const style = `fill="${fill}" stroke="${border}" stroke-width="7" stroke-linejoin="round"`;
  const layers = [1, 0].map((n) => {
    const y = top + n * layer;
    return `<path d="M${left} ${y}v${layer}${ellipse}V${y}" ${style}/>`;
  });
  const cover = `<ellipse cx="${(left + right) / 2}" cy="${top}" rx="48" ry="17" ${style}/>`;
  return [...layers, cover].join('');
}

export function iconDrawing(): string {
  return drawing('loopcsi', size, size, [loop(), disk()]);
}
