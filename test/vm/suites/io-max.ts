import { GiB } from '../../../src/units.ts';
import type { Suite } from '../suite.ts';

export const suite: Suite = {
  name: 'io-max',
  about: 'the effect of io.max of a cgroup on the I/O of volumes',
  minutes: 40,
  disks: [{ name: 'pool', bytes: 4n * GiB }],
  inside: { tests: ['vm/inside/io-max.test'], idleMinutes: 30 },
};
