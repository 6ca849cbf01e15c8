/** The limit of the tests: so low that I/O without it is much faster, even under emulation. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { numberOf } from './limited-pod.ts';

/** The kubelet's cgroup for all pods, which the driver finds by its name. */
export const podsCgroup = '/sys/fs/cgroup/kubepods.slice';

/** Bytes per second. */
export const limitedRate = 512n * 1024n;
export const limitParameters = { readBytesPerSecond: '512Ki', writeBytesPerSecond: '512Ki' };

/** The line in io.max for a device with this limit. */
export async function limitedLine(device: string): Promise<string> {
  return `${await numberOf(device)} rbps=${limitedRate} wbps=${limitedRate} riops=max wiops=max`;
}

/** The lines of loop devices in io.max of all pods. */
export async function limitLines(): Promise<readonly string[]> {
  const text = await readFile(join(podsCgroup, 'io.max'), 'utf8');
  return text.split('\n').filter((line) => line.startsWith('7:'));
}
