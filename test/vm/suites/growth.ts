import type { Suite } from '../suite.ts';

export const suite: Suite = {
  name: 'growth',
  about:
    'growth of ext4 during writes, the driver killed at each step, and the growth without CAP_SYS_RESOURCE',
  minutes: 60,
  inside: { tests: ['vm/inside/growth.test'], idleMinutes: 25 },
  sample: {
    tests: ['vm/inside/growth.test'],
    match: ['ext4 grows under a writer: a kill at each fault point is recovered'],
    idleMinutes: 25,
    environment: { LOOPCSI_GROWTH: 'sample' },
  },
};
