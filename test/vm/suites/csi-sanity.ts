import type { Suite } from '../suite.ts';

export const suite: Suite = {
  name: 'csi-sanity',
  about: 'the conformance suite of CSI on pools and volumes of every filesystem',
  minutes: 40,
  inside: { tests: ['conformance/sanity.test'], idleMinutes: 14 },
};
