import { GiB } from '../../../src/units.ts';
import type { Suite } from '../suite.ts';

const tests = ['vm/inside/io-limits.test'];

export const suite: Suite = {
  name: 'io-limits',
  about: 'I/O limits that the driver sets for volumes, in io.max of cgroup v2',
  minutes: 60,
  disks: [{ name: 'pool', bytes: 4n * GiB }],
  inside: { tests, idleMinutes: 20 },
  sample: {
    tests,
    match: ['direct and buffered I/O is within the limit, and fast without it'],
    idleMinutes: 10,
    environment: { LOOPCSI_IO_LIMITS: 'sample' },
  },
};
