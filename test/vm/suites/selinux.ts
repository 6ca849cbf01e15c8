import type { Suite } from '../suite.ts';

export const suite: Suite = {
  name: 'selinux',
  about:
    "the driver, and pods that use volumes with their own context, under Debian's SELinux policy",
  minutes: 30,
  kernelArguments: ['security=selinux', 'selinux=1'],
  inside: { tests: ['vm/inside/selinux.test'] },
};
