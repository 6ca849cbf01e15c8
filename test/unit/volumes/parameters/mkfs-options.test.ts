import test from 'ava';
import fc from 'fast-check';
import { VolumeError } from '../../../../src/errors.ts';
import { fsTypes } from '../../../../src/host/host.ts';
import {
  allowedMkfsFlags,
  parseMkfsOptions,
} from '../../../../src/volumes/parameters/mkfs-options.ts';

for (const { fsType, text, options } of [
  { fsType: 'ext4', text: '', options: [] },
  {
    fsType: 'ext4',
    text: '  -i 8192\t-O project,quota ',
    options: ['-i', '8192', '-O', 'project,quota'],
  },
  {
    fsType: 'ext4',
    text: '-I 512 -N 100000 -J size=64 -L data',
    options: ['-I', '512', '-N', '100000', '-J', 'size=64', '-L', 'data'],
  },
  {
    fsType: 'xfs',
    text: '-i size=1024,maxpct=50 -m rmapbt=1',
    options: ['-i', 'size=1024,maxpct=50', '-m', 'rmapbt=1'],
  },
  {
    fsType: 'xfs',
    text: '-n size=8192 -l size=128m',
    options: ['-n', 'size=8192', '-l', 'size=128m'],
  },
  {
    fsType: 'btrfs',
    text: '--checksum=sha256 --nodesize 4096',
    options: ['--csum', 'sha256', '-n', '4096'],
  },
  {
    fsType: 'btrfs',
    text: '-m single -d dup -O ^no-holes',
    options: ['-m', 'single', '-d', 'dup', '-O', '^no-holes'],
  },
] as const) {
  test(`mkfsOptions of ${fsType}: '${text}' is allowed`, (t) => {
    t.deepEqual(parseMkfsOptions(fsType, text), options);
  });
}

for (const { fsType, text, refused } of [
  { fsType: 'ext4', text: '-b 1024', refused: '-b' },
  { fsType: 'ext4', text: '-O ^has_journal', refused: '^has_journal' },
  { fsType: 'ext4', text: '-O ^metadata_csum', refused: '^metadata_csum' },
  { fsType: 'ext4', text: '-J device=/dev/sda1', refused: 'device=/dev/sda1' },
  { fsType: 'ext4', text: '-E discard', refused: '-E' },
  { fsType: 'ext4', text: '-i', refused: '-i' },
  { fsType: 'ext4', text: '-i 8192 -i 4096', refused: '-i' },
  { fsType: 'ext4', text: '-i 1024', refused: '1024' },
  { fsType: 'ext4', text: '-O project,project', refused: 'project' },
  { fsType: 'ext4', text: '-i8192', refused: '-i8192' },
  { fsType: 'ext4', text: '/dev/sda1', refused: '/dev/sda1' },
  { fsType: 'ext4', text: '-L -f', refused: '-f' },
  { fsType: 'ext4', text: '-L $(id)', refused: '$(id)' },
  { fsType: 'xfs', text: '-d su=64k,sw=2', refused: '-d' },
  { fsType: 'xfs', text: '-l logdev=/dev/sda1', refused: 'logdev=/dev/sda1' },
  { fsType: 'xfs', text: '-l size=10m', refused: 'size=10m' },
  { fsType: 'xfs', text: '-m uuid=3f2b8c1d-0a4e-4f6b-9c7d-5e8f01234567', refused: 'uuid=' },
  { fsType: 'xfs', text: '-s size=512', refused: '-s' },
  { fsType: 'xfs', text: '-i size=512,size=1024', refused: 'size' },
  { fsType: 'btrfs', text: '--rootdir /etc', refused: '--rootdir' },
  { fsType: 'btrfs', text: '--csum=blake2', refused: 'blake2' },
  { fsType: 'btrfs', text: '--csum', refused: '--csum' },
  { fsType: 'btrfs', text: '-n 4096 --nodesize=8192', refused: '--nodesize' },
  { fsType: 'btrfs', text: '-d raid1', refused: 'raid1' },
] as const) {
  test(`mkfsOptions of ${fsType}: '${text}' is refused`, (t) => {
    const error = t.throws(() => parseMkfsOptions(fsType, text), { instanceOf: VolumeError });
    t.is(error?.reason, 'invalid');
    t.true(error?.message.includes(`'${refused}`), error?.message);
    t.true(error?.message.includes('allowed: '));
  });
}

test('every accepted mkfs option is in the list, whatever the text', (t) => {
  const piece = fc.oneof(
    fc.constantFrom('-i', '-O', '-m', '-d', '-n', '-L', '-E', '-b', '-s', '-f', '--csum', '-U'),
    fc.constantFrom('8192', 'size=512', 'dup', 'project', 'a', '/dev/sda', 'uuid=x', 'su=1', ';'),
    fc.string({ maxLength: 12 }),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...fsTypes),
      fc.array(piece, { maxLength: 6 }),
      (fsType, pieces) => {
        let options: readonly string[];
        try {
          options = parseMkfsOptions(fsType, pieces.join(' '));
        } catch (error) {
          t.true(error instanceof VolumeError);
          return;
        }
        t.is(options.length % 2, 0);
        for (let index = 0; index < options.length; index += 2) {
          const allowed = allowedMkfsFlags[fsType].find(({ flag }) => flag === options[index]);
          const parts =
            allowed?.list === true ? options[index + 1]?.split(',') : [options[index + 1]];
          for (const part of parts ?? []) {
            t.true(allowed?.values.some(({ pattern }) => pattern.test(part ?? '')));
            t.regex(part ?? '', /^[A-Za-z0-9^][A-Za-z0-9._=^-]*$/);
          }
        }
      },
    ),
    { numRuns: 2000 },
  );
});
