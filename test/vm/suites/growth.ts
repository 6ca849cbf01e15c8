import type { Suite } from '../suite.ts';

export const suite: Suite = {
  name: 'growth',
  about:
    'ext4 grown in use under a writer, the driver killed at each step, and the way without CAP_SYS_RESOURCE',
  minutes: 30,
  inside: { tests: ['vm/inside/growth.test'], idleMinutes: 25 },
};
