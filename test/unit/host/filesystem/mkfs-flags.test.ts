import test from 'ava';
import { mergeFlags } from '../../../../src/host/filesystem/mkfs-flags.ts';

test('default and caller’s mkfs options are merged: each flag occurs once, with the caller’s value or both values joined', (t) => {
  const defaults = [
    { flag: '-O', value: 'a,b', join: true },
    { flag: '-i', value: '16384' },
  ];
  t.deepEqual(mergeFlags([], defaults), ['-O', 'a,b', '-i', '16384']);
  t.deepEqual(mergeFlags(['-i', '4096', '-O', 'c', '-N', '9'], defaults), [
    '-O',
    'a,b,c',
    '-i',
    '4096',
    '-N',
    '9',
  ]);
  t.throws(() => mergeFlags(['-i'], defaults), { instanceOf: TypeError });
});
