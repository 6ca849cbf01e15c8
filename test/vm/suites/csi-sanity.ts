import type { Suite } from '../suite.ts';

export const suite: Suite = {
  name: 'csi-sanity',
  about: 'the conformance suite of CSI on pools and volumes of every filesystem',
  minutes: 60,
  inside: { tests: ['conformance/sanity.test'], idleMinutes: 14 },
  sample: {
    tests: ['conformance/sanity.test'],
    match: ['csi-sanity: ext4 volumes on the machine*'],
    idleMinutes: 14,
  },
};
