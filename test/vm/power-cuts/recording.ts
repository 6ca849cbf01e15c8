/** The disks of a recording, in the machine and on the host. */
import { MiB } from '../../../src/units.ts';
import type { SuiteDisk } from '../suite.ts';

export const poolFilesystems = ['ext4', 'xfs', 'btrfs'] as const;
export type PoolFilesystem = (typeof poolFilesystems)[number];

/** The names of the disk that has the pool and of the disk that has the log. */
export function recordingDisks(type: PoolFilesystem): { disk: string; log: string } {
  return { disk: `${type}-pool`, log: `${type}-log` };
}

/** The disk is small, since it is copied and checked in each of its states. A log has every write of all rounds. */
const poolBytes = 512n * MiB;
const logBytes = 32_768n * MiB;

export const disksOfRecordings: readonly SuiteDisk[] = poolFilesystems.flatMap((type) => {
  const { disk, log } = recordingDisks(type);
  return [
    { name: disk, bytes: poolBytes },
    { name: log, bytes: logBytes },
  ];
});
