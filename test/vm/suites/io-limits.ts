import { GiB } from '../../../src/units.ts';
import type { Suite } from '../suite.ts';

export const suite: Suite = {
  name: 'io-limits',
  about: 'I/O limits that the driver sets for volumes, in io.max of cgroup v2',
  minutes: 60,
  disks: [{ name: 'pool', bytes: 4n * GiB }],
  inside: { tests: ['vm/inside/io-limits.test'], idleMinutes: 20 },
};
