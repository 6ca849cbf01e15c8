import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type FaultPoint, faultPoints } from '../../src/volumes/engine/fault-points.ts';

/** Environment variable with the directory of the files below, which a test and the driver that it kills share. */
export const controlVariable = 'LOOPCSI_TEST_CONTROL';
/** `ROUND POINT NTH`: the driver kills itself when it reaches that point for the n-th time in this round. */
export const armFile = 'arm';
/** One line `ROUND POINT` for every fault point that was reached. */
export const traceFile = 'trace';

/** A moment of an operation: the n-th time that it reaches a fault point. */
export interface Moment {
  readonly point: FaultPoint;
  readonly nth: number;
}

/** Begins a round: fault points are traced under its name from now on, and the driver kills itself at `moment`. */
export async function arm(directory: string, round: string, moment?: Moment): Promise<void> {
  const line = moment === undefined ? round : `${round} ${moment.point} ${moment.nth}`;
  const path = join(directory, armFile);
  await writeFile(`${path}.new`, line);
  await rename(`${path}.new`, path);
}

export async function disarm(directory: string): Promise<void> {
  await rm(join(directory, armFile), { force: true });
}

const pointNames = new Set<string>(faultPoints);

/** The moments that a round passed, in order. */
export async function momentsOf(directory: string, round: string): Promise<readonly Moment[]> {
  const text = await readFile(join(directory, traceFile), 'utf8').catch(() => '');
  const counts = new Map<string, number>();
  return text.split('\n').flatMap((line) => {
    const [in_, point = ''] = line.split(' ');
    if (in_ !== round || !pointNames.has(point)) return [];
    const nth = (counts.get(point) ?? 0) + 1;
    counts.set(point, nth);
    // Names are checked against the list above.
    return [{ point: point as FaultPoint, nth }];
  });
}
