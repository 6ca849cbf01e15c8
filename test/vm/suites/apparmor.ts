import type { Suite } from '../suite.ts';

export const suite: Suite = {
  name: 'apparmor',
  about: 'the driver and pods while AppArmor enforces the profiles of containers',
  minutes: 20,
  kernelArguments: ['apparmor=1', 'security=apparmor'],
  inside: { tests: ['vm/inside/apparmor.test'] },
};
