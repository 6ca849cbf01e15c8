import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { GiB, MiB } from '../../../../src/units.ts';
import { findMountedThinVolumes } from '../../../../src/volumes/jobs/mounted-thin-volumes.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';
import { until } from '../../../helpers/until.ts';

/** A staged volume. The test decides how long the trim of a range takes. */
async function slowlyTrimmed(t: ExecutionContext) {
  const node = await fakeNode(t);
  const { volumes, domain } = await node.open([node.settings('a')]);
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
  return { volumes, domain, pool, volume, at, ranges };
}

test('a trim stops after its current range for a call on its volume', async (t) => {
  const { volumes, domain, pool, volume, at, ranges } = await slowlyTrimmed(t);
  const trim = domain.trims.trim(pool, volume);
  await until('the first range has started', () => ranges.length === 1);
  const unstaged = volumes.unstageVolume(call(), at);
  // An unmount that did not wait would get EBUSY.
  await until('the call runs', () => domain.operations.runningCount === 1);
  ranges[0]?.end();
  await unstaged;
  t.is(await trim, 'interrupted');
  t.is(ranges.length, 1);
  t.like(domain.trims.countsOf(pool), { runs: { interrupted: 1 }, bytes: MiB });
});

test('the ranges of a trim are adjacent, cover everything and have a maximum size', async (t) => {
  const { domain, pool, volume, ranges } = await slowlyTrimmed(t);
  const trim = domain.trims.trim(pool, volume);
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
  t.is(await trim, 'done');
});

test('no trim starts a range while a call works on the volume', async (t) => {
  const { domain, pool, volume, ranges, at } = await slowlyTrimmed(t);
  const release = domain.operations.locks.acquire(
    { exclusive: [`volume:${at.volumeId}`] },
    'a test',
  );
  t.is(await domain.trims.trim(pool, volume), 'interrupted');
  t.is(ranges.length, 0);
  release();
});
