import { disksOfRecordings, poolFilesystems } from '../power-cuts/recording.ts';
import { reportRecordings } from '../power-cuts/report-recordings.ts';
import type { Suite } from '../suite.ts';

export const suite: Suite = {
  name: 'power-cuts',
  about:
    'after each flush of its disk, a pool on ext4, XFS or btrfs has everything that was acknowledged',
  minutes: 180,
  disks: disksOfRecordings,
  inside: { program: 'record-power-cuts', args: ['6', ...poolFilesystems] },
  sample: { program: 'record-power-cuts', args: ['1', 'ext4'] },
  check: reportRecordings,
};
