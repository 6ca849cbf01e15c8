import { MiB } from '../../../src/units.ts';
import type { Suite } from '../suite.ts';

export const suite: Suite = {
  name: 'host-content',
  about: 'the reaction of udev, LVM, md and blkid of a host to the content of block volumes',
  minutes: 30,
  // The volume group and the filesystems that belong to the host itself.
  disks: [
    { name: 'host-vg', bytes: 256n * MiB },
    { name: 'host-fs', bytes: 64n * MiB },
    { name: 'host-btrfs', bytes: 256n * MiB },
  ],
  inside: { tests: ['vm/inside/host-content.test'] },
};
