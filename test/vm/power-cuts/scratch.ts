import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { GiB } from '../../../src/units.ts';

const memory = '/dev/shm';
/** More than a state and the files that its check writes. */
const neededBytes = 2n * GiB;

/** The directory in which states of a disk are written and mounted. It is in memory if there is enough memory, since each state is a new file. */
export async function findScratch(): Promise<string> {
  try {
    const { bavail, bsize } = await statfs(memory, { bigint: true });
    return bavail * bsize >= neededBytes ? memory : tmpdir();
  } catch {
    return tmpdir();
  }
}
