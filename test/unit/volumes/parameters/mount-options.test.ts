import test from 'ava';
import fc from 'fast-check';
import { VolumeError } from '../../../../src/errors.ts';
import { fsTypes } from '../../../../src/host/host.ts';
import { parseMountOptions } from '../../../../src/volumes/parameters/mount-options.ts';

for (const { fsType, flags, options } of [
  { fsType: 'ext4', flags: [], options: [] },
  { fsType: 'ext4', flags: ['noatime', 'nodev,nosuid'], options: ['noatime', 'nodev', 'nosuid'] },
  {
    fsType: 'ext4',
    flags: ['commit=30', 'data=ordered', 'errors=remount-ro'],
    options: ['commit=30', 'data=ordered', 'errors=remount-ro'],
  },
  { fsType: 'xfs', flags: ['allocsize=64k', 'prjquota'], options: ['allocsize=64k', 'prjquota'] },
  {
    fsType: 'btrfs',
    flags: ['compress=zstd:3', 'discard=async'],
    options: ['compress=zstd:3', 'discard=async'],
  },
  {
    fsType: 'ext4',
    flags: ['context="system_u:object_r:container_file_t:s0:c1,c2"', 'ro'],
    options: ['context="system_u:object_r:container_file_t:s0:c1,c2"', 'ro'],
  },
  {
    fsType: 'xfs',
    flags: ['noexec,context=system_u:object_r:container_file_t:s0:c1,c2'],
    options: ['noexec', 'context="system_u:object_r:container_file_t:s0:c1,c2"'],
  },
  {
    fsType: 'xfs',
    flags: ['context="a:b:c:s0",noexec'],
    options: ['context="a:b:c:s0"', 'noexec'],
  },
] as const) {
  test(`mount options of ${fsType}: '${flags.join(' ')}' is allowed`, (t) => {
    t.deepEqual(parseMountOptions(fsType, flags), options);
  });
}

const refusedOptions = [
  'bind',
  'rbind',
  'move',
  'remount',
  'remount,ro',
  'shared',
  'rshared',
  'private',
  'rslave',
  'loop',
  'loop=/dev/loop3',
  'offset=4096',
  'errors=panic',
  'nouuid',
  'norecovery',
  'noload',
  'nologreplay',
  'rescue=all',
  'journal_dev=8:1',
  'journal_path=/dev/sda1',
  'logdev=/dev/sda',
  'rtdev=/dev/sda',
  'nobarrier',
  'barrier=0',
  'subvol=x',
  'subvolid=5',
  'device=/dev/sda',
  'usrjquota=aquota.user',
  'sb=32768',
  'degraded',
  'abort',
  'dax',
  'x-systemd.automount',
  'context="a',
  'context=a"b',
  'context=',
  'fscontext=a:b:c:s0',
  'commit=',
  'commit=1e9',
  'noatime\0',
  'no\natime',
  'NOATIME',
  'data=ordered;x',
  'compress=zstd:99',
  'user=root',
];

for (const option of refusedOptions) {
  test(`mount options: ${JSON.stringify(option)} is refused for every filesystem`, (t) => {
    for (const fsType of fsTypes) {
      const error = t.throws(() => parseMountOptions(fsType, ['noatime', option]), {
        instanceOf: VolumeError,
      });
      t.is(error?.reason, 'invalid');
    }
  });
}

test('an option of one filesystem is refused for another', (t) => {
  t.throws(() => parseMountOptions('xfs', ['data=journal']), { message: /'data=journal'.*xfs/ });
  t.throws(() => parseMountOptions('ext4', ['compress=zstd']), { instanceOf: VolumeError });
  t.throws(() => parseMountOptions('btrfs', ['allocsize=64k']), { instanceOf: VolumeError });
});

test('a refused mount option is refused in any combination of entries', (t) => {
  const bad = fc.constantFrom(...refusedOptions.filter((option) => !option.startsWith('context')));
  const good = fc.constantFrom('noatime', 'ro', 'discard', 'nodev', 'context="a:b:c:s0:c1,c2"');
  const between = fc.constantFrom(',', ' ,', ', ');
  fc.assert(
    fc.property(
      fc.constantFrom(...fsTypes),
      good,
      bad,
      good,
      between,
      (fsType, first, option, last, separator) => {
        t.throws(() => parseMountOptions(fsType, [[first, option, last].join(separator)]), {
          instanceOf: VolumeError,
        });
      },
    ),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...fsTypes),
      fc.array(fc.string({ maxLength: 20 })),
      (fsType, flags) => {
        try {
          for (const option of parseMountOptions(fsType, flags)) {
            t.regex(option, /^[a-z][a-z0-9_-]*(?:=[A-Za-z0-9_:."-]+)?$/);
          }
        } catch (error) {
          t.true(error instanceof VolumeError);
        }
      },
    ),
  );
});
