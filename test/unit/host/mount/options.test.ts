import test from 'ava';
import { splitMountOptions } from '../../../../src/host/mount/options.ts';

const [RDONLY, NOSUID, NODEV, NOEXEC, NOATIME] = [1, 2, 4, 8, 1024];

const cases: readonly { name: string; options: readonly string[]; flags: number; data: string }[] =
  [
    { name: 'nothing', options: [], flags: 0, data: '' },
    {
      name: 'options of the VFS are flags',
      options: ['ro', 'nosuid', 'nodev', 'noexec', 'noatime'],
      flags: RDONLY | NOSUID | NODEV | NOEXEC | NOATIME,
      data: '',
    },
    {
      name: 'the rest is for the filesystem, in order',
      options: ['nouuid', 'rw', 'logbufs=8', 'discard'],
      flags: 0,
      data: 'nouuid,logbufs=8,discard',
    },
    {
      name: 'a later option wins',
      options: ['ro', 'noexec', 'rw', 'exec', 'noexec'],
      flags: NOEXEC,
      data: '',
    },
    { name: 'defaults has no effect', options: ['defaults', 'ro'], flags: RDONLY, data: '' },
    {
      name: 'a quoted comma is kept',
      options: ['context="system_u:object_r:file_t:s0:c1,c2"'],
      flags: 0,
      data: 'context="system_u:object_r:file_t:s0:c1,c2"',
    },
    {
      name: 'a property of Object is not a flag',
      options: ['constructor'],
      flags: 0,
      data: 'constructor',
    },
  ];
for (const { name, options, ...expected } of cases) {
  test(`splitMountOptions: ${name}`, (t) => {
    t.deepEqual(splitMountOptions(options), expected);
  });
}

for (const option of ['a,b', 'context="x",nouuid', 'a\0b']) {
  test(`splitMountOptions: ${JSON.stringify(option)} is refused as a single option`, (t) => {
    t.throws(() => splitMountOptions([option]), { message: /EINVAL/ });
  });
}
