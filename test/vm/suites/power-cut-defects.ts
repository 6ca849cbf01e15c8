import { disksOfRecordings } from '../power-cuts/recording.ts';
import { reportDefects } from '../power-cuts/report-defects.ts';
import type { Suite } from '../suite.ts';

export const suite: Suite = {
  name: 'power-cut-defects',
  about:
    'deliberate defects of the driver, each detected in a state of the disk with wrong content',
  minutes: 60,
  disks: disksOfRecordings,
  drive: reportDefects,
};
