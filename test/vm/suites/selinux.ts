import type { Suite } from '../suite.ts';

export const suite: Suite = {
  name: 'selinux',
  about: "the driver, and pods that use volumes with a context of their own, under Debian's policy",
  minutes: 30,
  kernelArguments: ['security=selinux', 'selinux=1'],
  inside: { tests: ['vm/inside/selinux.test'] },
};
