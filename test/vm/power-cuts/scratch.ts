import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { GiB } from '../../../src/units.ts';

const memory = '/dev/shm';
/** A state and what its check writes take less. */
const neededBytes = 2n * GiB;

/** Where states of a disk are written and mounted: memory, where there is enough, since each is written anew. */
export async function findScratch(): Promise<string> {
  try {
    const { bavail, bsize } = await statfs(memory, { bigint: true });
    return bavail * bsize >= neededBytes ? memory : tmpdir();
  } catch {
    return tmpdir();
  }
}
