import test from 'ava';
import { splitMountOptions } from '../../../../src/host/mount/options.ts';

const [RDONLY, NOSUID, NODEV, NOEXEC, NOATIME] = [1, 2, 4, 8, 1024];

const cases: readonly { name: string; words: readonly string[]; flags: number; data: string }[] = [
  { name: 'nothing', words: [], flags: 0, data: '' },
  {
    name: 'words of the VFS are bits',
    words: ['ro', 'nosuid', 'nodev', 'noexec', 'noatime'],
    flags: RDONLY | NOSUID | NODEV | NOEXEC | NOATIME,
    data: '',
  },
  {
    name: 'the rest is the filesystem’s, in order',
    words: ['nouuid', 'rw', 'logbufs=8', 'discard'],
    flags: 0,
    data: 'nouuid,logbufs=8,discard',
  },
  {
    name: 'a later word wins',
    words: ['ro', 'noexec', 'rw', 'exec', 'noexec'],
    flags: NOEXEC,
    data: '',
  },
  { name: 'defaults says nothing', words: ['defaults', 'ro'], flags: RDONLY, data: '' },
  {
    name: 'a quoted comma stays',
    words: ['context="system_u:object_r:file_t:s0:c1,c2"'],
    flags: 0,
    data: 'context="system_u:object_r:file_t:s0:c1,c2"',
  },
  { name: 'a word of Object is no flag', words: ['constructor'], flags: 0, data: 'constructor' },
];
for (const { name, words, ...expected } of cases) {
  test(`splitMountOptions: ${name}`, (t) => {
    t.deepEqual(splitMountOptions(words), expected);
  });
}

for (const word of ['a,b', 'context="x",nouuid', 'a\0b']) {
  test(`splitMountOptions: ${JSON.stringify(word)} is not one word`, (t) => {
    t.throws(() => splitMountOptions([word]), { message: /EINVAL/ });
  });
}
