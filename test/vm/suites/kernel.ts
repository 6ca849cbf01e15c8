import type { Suite } from '../suite.ts';

const inside = { tests: ['vm/inside/kernel.test'] };

export const suite: Suite = {
  name: 'kernel',
  about: 'the machine has the rights and kernel features that the development machines lack',
  minutes: 5,
  inside,
  sample: inside,
};
