import test from 'ava';
import { VolumeError } from '../../../../src/errors.ts';
import { Locks } from '../../../../src/volumes/engine/locks.ts';

test('a refusal names the operation in progress, and its age once that exceeds a second', (t) => {
  let atMs = 0;
  const locks = new Locks(() => atMs);
  const release = locks.acquire({ exclusive: ['volume:v'] }, 'NodeStageVolume');
  const refusal = (): VolumeError =>
    t.throws<VolumeError>(() => locks.acquire({ shared: ['volume:v'] }, 'CreateSnapshot'), {
      instanceOf: VolumeError,
    });
  t.is(refusal().reason, 'busy');
  t.regex(refusal().message, /^NodeStageVolume is in progress for volume v; try again/);
  atMs = 12_700;
  t.regex(
    refusal().message,
    /^NodeStageVolume is in progress for volume v, started 12 s ago; try again/,
  );
  release();
  locks.acquire({ shared: ['volume:v'] }, 'CreateSnapshot')();
});

const reasonOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return error instanceof VolumeError ? error.reason : String(error);
  }
  return 'ok';
};

test('a lock is exclusive for a writer and shared by readers', (t) => {
  const locks = new Locks();
  const write = () => locks.acquire({ exclusive: ['volume:v'] }, 'write');
  const read = () => locks.acquire({ shared: ['volume:v'] }, 'read');
  const written = write();
  t.deepEqual([reasonOf(write), reasonOf(read)], ['busy', 'busy']);
  written();
  const [one, two] = [read(), read()];
  one();
  t.is(reasonOf(write), 'busy', 'the second one still reads');
  // A second release of the same lock has no effect.
  const three = read();
  one();
  two();
  t.is(reasonOf(write), 'busy', 'the third one still reads');
  three();
  t.is(locks.size, 0);
  t.is(reasonOf(write), 'ok');
});

test('the locks of a plan are taken together or not at all', (t) => {
  const locks = new Locks();
  const release = locks.acquire({ exclusive: ['volume:b'] }, 'first');
  const both = () => locks.acquire({ exclusive: ['volume:a'], shared: ['volume:b'] }, 'second');
  t.is(reasonOf(both), 'busy');
  t.is(locks.lockedBy('volume:a'), undefined);
  release();
  t.is(reasonOf(both), 'ok');
  t.is(locks.lockedBy('volume:a'), 'second');
});
