import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type FaultPoint, faultPoints } from '../../src/volumes/engine/fault-points.ts';

/** Names the directory in which a test and the driver that it kills meet. */
export const controlVariable = 'LOOPCSI_TEST_CONTROL';
/** `ROUND POINT NTH`: end at that point, when it is reached for the n-th time in this round. */
export const armFile = 'arm';
/** `ROUND POINT` a line, for every point that was reached. */
export const traceFile = 'trace';

/** A moment of an operation: a fault point, and the how-manieth time it is reached. */
export interface Moment {
  readonly point: FaultPoint;
  readonly nth: number;
}

/** Begins a round: what is reached from now on is traced under its name, and the driver dies at `moment`. */
export async function arm(directory: string, round: string, moment?: Moment): Promise<void> {
  const words = moment === undefined ? round : `${round} ${moment.point} ${moment.nth}`;
  const path = join(directory, armFile);
  await writeFile(`${path}.new`, words);
  await rename(`${path}.new`, path);
}

export async function disarm(directory: string): Promise<void> {
  await rm(join(directory, armFile), { force: true });
}

const known = new Set<string>(faultPoints);

/** The moments of a round, in order. */
export async function momentsOf(directory: string, round: string): Promise<readonly Moment[]> {
  const text = await readFile(join(directory, traceFile), 'utf8').catch(() => '');
  const counts = new Map<string, number>();
  return text.split('\n').flatMap((line) => {
    const [in_, point = ''] = line.split(' ');
    if (in_ !== round || !known.has(point)) return [];
    const nth = (counts.get(point) ?? 0) + 1;
    counts.set(point, nth);
    // Names are checked against the list above.
    return [{ point: point as FaultPoint, nth }];
  });
}
