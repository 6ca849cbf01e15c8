import test from 'ava';
import { VolumeError } from '../../../src/errors.ts';
import { Locks } from '../../../src/volumes/locks.ts';

test('who is refused is told what is in progress, and since when once that is long', (t) => {
  let atMs = 0;
  const locks = new Locks(() => atMs);
  const release = locks.take({ exclusive: ['volume:v'] }, 'NodeStageVolume');
  const refusal = (): VolumeError =>
    t.throws<VolumeError>(() => locks.take({ shared: ['volume:v'] }, 'CreateSnapshot'), {
      instanceOf: VolumeError,
    });
  t.is(refusal().reason, 'busy');
  t.regex(refusal().message, /^NodeStageVolume is in progress for volume v; try again/);
  atMs = 12_700;
  t.regex(refusal().message, /^NodeStageVolume is in progress for volume v, since 12 s; try again/);
  release();
  locks.take({ shared: ['volume:v'] }, 'CreateSnapshot')();
});
