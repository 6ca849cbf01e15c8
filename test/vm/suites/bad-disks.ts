import { GiB } from '../../../src/units.ts';
import type { Suite } from '../suite.ts';

const test = (name: string): string => `vm/inside/bad-disks/${name}.test`;

export const suite: Suite = {
  name: 'bad-disks',
  about: 'the disk below a pool fails, loses writes, or does not answer',
  minutes: 60,
  disks: [{ name: 'bad', bytes: 2n * GiB }],
  inside: {
    tests: [
      'unreadable-files',
      'changed-blocks',
      'own-blocks',
      'passing-errors',
      'lying-disk',
      'failing-disk',
      'silent-disk',
    ].map(test),
    idleMinutes: 20,
  },
};
