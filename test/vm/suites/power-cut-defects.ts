import { disksOfRecordings } from '../power-cuts/recording.ts';
import { reportDefects } from '../power-cuts/report-defects.ts';
import type { Suite } from '../suite.ts';

export const suite: Suite = {
  name: 'power-cut-defects',
  about:
    'deliberate defects of the driver, each seen in a state of the disk that is not as it must be',
  minutes: 60,
  disks: disksOfRecordings,
  drive: reportDefects,
};
