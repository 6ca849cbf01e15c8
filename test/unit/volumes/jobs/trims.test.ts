import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { GiB, MiB } from '../../../../src/units.ts';
import { trimVolume } from '../../../../src/volumes/admin/trim.ts';
import { findMountedThinVolumes } from '../../../../src/volumes/jobs/mounted-thin-volumes.ts';
import { pauseMsAfter } from '../../../../src/volumes/jobs/trims.ts';
import { fakeNode, fakeSettings } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';
import { until } from '../../../helpers/until.ts';

/** A staged volume. The test decides how long the trim of a range takes. */
async function slowlyTrimmed(t: ExecutionContext, trimBytesPerSecond = GiB) {
  const node = await fakeNode(t);
  const settings = { ...fakeSettings, trimBytesPerSecond };
  const { volumes, domain } = await node.open([node.settings('a')], { settings });
  const { record } = await volumes.createVolume(call(), volumeInput('v', { sizeBytes: 8n * GiB }));
  const at = { volumeId: record.id, stagingTargetPath: join(node.directory, 'staging') };
  await mkdir(at.stagingTargetPath);
  await volumes.stageVolume(call(), { ...at, capability: capability() });
  const ranges: { offset: bigint; length: bigint; end: () => void }[] = [];
  const { mounts } = node.host;
  mounts.trim = async (target, _device, { offset, length }) => {
    const close = await node.host.otherSoftware.openFile(target);
    return new Promise((resolve) => {
      const end = () => {
        void close();
        resolve(offset >= 8n * GiB ? undefined : MiB);
      };
      ranges.push({ offset, length, end });
    });
  };
  const pool = domain.pools.named('a');
  const [volume] = await findMountedThinVolumes(node.host, pool, await mounts.list());
  if (volume === undefined) throw new Error('it is not mounted');
  return { node, volumes, domain, pool, volume, at, ranges };
}

test('a trim stops after its current range for a call on its volume', async (t) => {
  const { volumes, domain, pool, volume, at, ranges } = await slowlyTrimmed(t);
  const trim = domain.trims.trim(pool, volume, 'guard');
  await until('the first range has started', () => ranges.length === 1);
  const unstaged = volumes.unstageVolume(call(), at);
  // An unmount that did not wait would get EBUSY.
  await until('the call runs', () => domain.operations.runningCount === 1);
  ranges[0]?.end();
  await unstaged;
  t.is((await trim).result, 'interrupted');
  t.is(ranges.length, 1);
  t.like(domain.trims.countsOf(pool), { runs: { interrupted: 1 }, bytes: MiB });
});

test('the ranges of a trim are adjacent, cover everything and have a maximum size', async (t) => {
  const { domain, pool, volume, ranges } = await slowlyTrimmed(t);
  const trim = domain.trims.trim(pool, volume, 'guard');
  let next = 0n;
  for (let at = 0; next < 8n * GiB; at += 1) {
    await until('the next range has started', () => ranges.length > at);
    const range = ranges[at];
    if (range === undefined) throw new Error('no range');
    t.is(range.offset, next);
    t.true(range.length <= 64n * GiB);
    next = range.offset + range.length;
    range.end();
  }
  await until('the range after the end is tried', () => ranges.at(-1)?.offset === next);
  ranges.at(-1)?.end();
  t.is((await trim).result, 'done');
});

test('no trim starts a range while a call works on the volume', async (t) => {
  const { domain, pool, volume, ranges, at } = await slowlyTrimmed(t);
  const release = domain.operations.locks.acquire(
    { exclusive: [`volume:${at.volumeId}`] },
    'a test',
  );
  t.is((await domain.trims.trim(pool, volume, 'guard')).result, 'interrupted');
  t.is(ranges.length, 0);
  release();
});

/** Makes each trim of a range take 64 MiB from the image's allocated bytes. */
function shrinking({ node, ranges }: Awaited<ReturnType<typeof slowlyTrimmed>>): void {
  const { files } = node.host;
  const imageStatus = files.imageStatus.bind(files);
  files.imageStatus = async (path) => {
    const status = await imageStatus(path);
    return { ...status, allocatedBytes: GiB - 64n * MiB * BigInt(ranges.length) };
  };
}

test('after a range that returned bytes, a trim pauses; a call ends the pause at once', async (t) => {
  const trimmed = await slowlyTrimmed(t, MiB);
  const { domain, pool, volume, ranges } = trimmed;
  shrinking(trimmed);
  const trim = domain.trims.trim(pool, volume, 'periodic');
  await until('the first range has started', () => ranges.length === 1);
  ranges[0]?.end();
  // Without the pause of a minute, this would find the second range.
  await until('the range has ended', async () => {
    await domain.trims.interrupt(volume.record.id);
    return true;
  });
  t.like(await trim, {
    result: 'interrupted',
    discardedBytes: MiB,
    allocatedBeforeBytes: GiB,
    allocatedAfterBytes: GiB - 64n * MiB,
  });
  t.is(ranges.length, 1);
});

test('the trims of the guard are not paced, and observers get their bytes', async (t) => {
  const trimmed = await slowlyTrimmed(t, 1n);
  const { domain, pool, volume, ranges } = trimmed;
  shrinking(trimmed);
  const events: unknown[] = [];
  domain.trims.observe((event) => events.push(event));
  const trim = domain.trims.trim(pool, volume, 'guard');
  for (let at = 0; (ranges[at - 1]?.offset ?? 0n) < 8n * GiB; at += 1) {
    await until('the next range has started', () => ranges.length > at);
    ranges[at]?.end();
  }
  const { result, allocatedAfterBytes } = await trim;
  t.is(result, 'done');
  t.is(allocatedAfterBytes, GiB - 64n * MiB * BigInt(ranges.length - 1));
  t.like(events, [{ pool: 'a', volumeId: volume.record.id, cause: 'guard', result: 'done' }]);
});

test('one volume of a pool is trimmed at a time; the guard does not wait, and two trims of a volume are one', async (t) => {
  const { domain, pool, volume, ranges } = await slowlyTrimmed(t);
  const other = { ...volume, record: { ...volume.record, id: 'other' as never } };
  const third = { ...volume, record: { ...volume.record, id: 'third' as never } };
  const first = domain.trims.trim(pool, volume, 'command');
  await until('the first range has started', () => ranges.length === 1);
  const second = domain.trims.trim(pool, other, 'periodic');
  const joined = domain.trims.trim(pool, volume, 'periodic');
  const urgent = domain.trims.trim(pool, third, 'guard');
  await until('the guard has started', () => ranges.length === 2);
  const stopped = domain.trims.stop();
  for (const { end } of ranges) end();
  await stopped;
  const outcomes = await Promise.all([first, joined, second, urgent]);
  t.is(outcomes[0], outcomes[1]);
  t.is(ranges.length, 2, 'the second one was waiting for its turn');
});

test('a caller that gives up leaves the queue, and a trim without callers ends', async (t) => {
  const { domain, pool, volume, ranges } = await slowlyTrimmed(t);
  const other = { ...volume, record: { ...volume.record, id: 'other' as never } };
  const aborts = Array.from({ length: 4 }, () => new AbortController());
  const trim = (which: typeof volume, at: number) =>
    domain.trims.trim(pool, which, 'command', aborts[at]?.signal);
  const first = trim(volume, 0);
  await until('the first range has started', () => ranges.length === 1);
  const waiting = [trim(other, 1), trim(other, 2)] as const;
  aborts[1]?.abort();
  t.is((await waiting[0]).result, 'interrupted', 'at once, although another trim runs');
  aborts[2]?.abort();
  await waiting[1];
  const late = trim(other, 3);
  aborts[0]?.abort();
  t.is((await first).result, 'interrupted');
  ranges[0]?.end();
  await until('the late call has its turn', () => ranges.length === 2);
  t.like(domain.trims.countsOf(pool), { runs: { interrupted: 1 } }, 'the first one');
  aborts[3]?.abort();
  ranges[1]?.end();
  await late;
  await until('it has ended, too', () => domain.trims.countsOf(pool).runs.interrupted === 2);
  t.is(ranges.length, 2);
});

for (const cause of ['command', 'guard'] as const) {
  test(`a trim (${cause}) does not join one that is being aborted, but follows it`, async (t) => {
    const { domain, pool, volume, ranges } = await slowlyTrimmed(t);
    const [first, leave] = [new AbortController(), new AbortController()];
    const aborted = domain.trims.trim(pool, volume, 'command', first.signal);
    await until('the first range has started', () => ranges.length === 1);
    first.abort();
    t.is((await aborted).result, 'interrupted');
    const next = domain.trims.trim(pool, volume, cause);
    const gone = domain.trims.trim(pool, volume, cause, leave.signal);
    leave.abort();
    t.is((await gone).result, 'interrupted', 'at once');
    t.is(ranges.length, 1);
    for (let at = 0; (ranges[at - 1]?.offset ?? 0n) < 8n * GiB; at += 1) {
      await until('the next range has started', () => ranges.length > at);
      ranges[at]?.end();
    }
    t.is((await next).result, 'done');
    t.like(domain.trims.countsOf(pool), { runs: { interrupted: 1, done: 1 } });
  });
}

test('two calls that wait for one volume get one trim; the guard begins it before its turn', async (t) => {
  const { domain, pool, volume, ranges } = await slowlyTrimmed(t);
  const other = { ...volume, record: { ...volume.record, id: 'other' as never } };
  const first = domain.trims.trim(pool, volume, 'command');
  await until('the first range has started', () => ranges.length === 1);
  const second = domain.trims.trim(pool, other, 'command');
  const third = domain.trims.trim(pool, other, 'command');
  const urgent = domain.trims.trim(pool, other, 'guard');
  await until('the guard has started', () => ranges.length === 2);
  const stopped = domain.trims.stop();
  for (const { end } of ranges) end();
  await stopped;
  const outcomes = await Promise.all([first, second, third, urgent]);
  t.deepEqual(
    outcomes.slice(1).map((outcome) => outcome === outcomes[3]),
    [true, true, true],
  );
  t.is(ranges.length, 2);
});

test('the guard ends the pause of a trim that it joins', async (t) => {
  const trimmed = await slowlyTrimmed(t, 1n);
  const { domain, pool, volume, ranges } = trimmed;
  shrinking(trimmed);
  const trim = domain.trims.trim(pool, volume, 'periodic');
  await until('the first range has started', () => ranges.length === 1);
  ranges[0]?.end();
  const joined = domain.trims.trim(pool, volume, 'guard');
  await until('the next range has started, without a pause', () => ranges.length === 2);
  const stopped = domain.trims.stop();
  ranges[1]?.end();
  await stopped;
  t.is(await trim, await joined);
});

test('the trim of an unused volume takes a turn without its lock, and none if its caller gives up', async (t) => {
  const { domain, volumes, pool, volume, ranges, node } = await slowlyTrimmed(t);
  const { record } = await volumes.createVolume(call(), volumeInput('u', { sizeBytes: 8n * GiB }));
  const gone = new AbortController();
  const first = domain.trims.trim(pool, volume, 'command');
  await until('the first range has started', () => ranges.length === 1);
  const attached = (await node.host.loops.list()).length;
  const cancelled = reasonOf(trimVolume(domain, { ...call(), signal: gone.signal }, 'u'));
  const trimmed = trimVolume(domain, call(), 'u');
  gone.abort();
  t.is(await cancelled, 'cancelled');
  t.is(domain.operations.locks.lockedBy(`volume:${record.id}`), undefined);
  t.is((await node.host.loops.list()).length, attached);
  const interrupted = domain.trims.interrupt(volume.record.id);
  ranges[0]?.end();
  await interrupted;
  await first;
  await until('it has its turn', () => ranges.length === 2);
  t.is((await node.host.loops.list()).length, attached + 1);
  const stopped = domain.trims.stop();
  ranges[1]?.end();
  await stopped;
  t.like(await trimmed, { isInterrupted: true, isMountedPrivately: true });
});

for (const [bytes, rate, ms] of [
  [0n, MiB, 0],
  [-MiB, MiB, 0],
  [64n * MiB, MiB, 64_000],
  [64n * GiB, 100n * MiB, 655_360],
  [1n << 62n, 1n, 2 ** 31 - 1],
] as const) {
  test(`after ${bytes} bytes at ${rate} bytes per second, a trim pauses for ${ms} ms`, (t) => {
    t.is(pauseMsAfter(bytes, rate), ms);
  });
}
