/** What lies where: the disks of a recording, in the machine and on the host. */
import { MiB } from '../../../src/units.ts';
import type { SuiteDisk } from '../suite.ts';

export const poolFilesystems = ['ext4', 'xfs', 'btrfs'] as const;
export type PoolFilesystem = (typeof poolFilesystems)[number];

/** Names of the disk that a pool lies on and of the disk that its log goes to. */
export function recordingDisks(type: PoolFilesystem): { disk: string; log: string } {
  return { disk: `${type}-pool`, log: `${type}-log` };
}

/** Small, since the disk is copied and checked in each of its states. A log holds every write of all rounds. */
const poolBytes = 512n * MiB;
const logBytes = 32_768n * MiB;

export const disksOfRecordings: readonly SuiteDisk[] = poolFilesystems.flatMap((type) => {
  const { disk, log } = recordingDisks(type);
  return [
    { name: disk, bytes: poolBytes },
    { name: log, bytes: logBytes },
  ];
});
