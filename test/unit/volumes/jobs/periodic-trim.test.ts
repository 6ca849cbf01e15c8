import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { MiB } from '../../../../src/units.ts';
import { makeMeasure } from '../../../../src/volumes/admin/metrics/measure.ts';
import { trimDueVolumes } from '../../../../src/volumes/jobs/periodic-trim.ts';
import { type FakeNode, fakeNode } from '../../../helpers/fake-node.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

const hourMs = 3_600_000;

/** A node whose clock the test sets, with mounted volumes of these `trim` values. */
async function trimmedNode(
  node: FakeNode,
  names: Readonly<Record<string, 'periodic' | 'online' | 'off'>>,
) {
  let nowMs = 1_000_000_000_000;
  const open = () => node.open([node.settings('a')], { now: () => nowMs });
  let opened = await open();
  for (const [name, trim] of Object.entries(names)) {
    const settings = { ...plainSettings, trim };
    const input = volumeInput(name, { sizeBytes: 16n * MiB, settings });
    const { record } = await opened.volumes.createVolume(call(), input);
    const stagingTargetPath = join(node.directory, name);
    await mkdir(stagingTargetPath);
    const asked = { volumeId: record.id, stagingTargetPath, capability: capability() };
    await opened.volumes.stageVolume(call(), asked);
  }
  /** Number of volumes that a check trims that much later. Each trim requests the first range once. */
  const trimsAfter = async (hours: number): Promise<number> => {
    const from = node.host.watch.calls.length;
    nowMs += hours * hourMs;
    await trimDueVolumes(opened.domain);
    return node.host.watch.calls
      .slice(from)
      .filter(
        ({ name, args }) => name === 'mounts.trim' && (args[2] as { offset: bigint }).offset === 0n,
      ).length;
  };
  const restart = async () => {
    await opened.close(100);
    opened = await open();
  };
  return { trimsAfter, restart, domain: () => opened.domain };
}

test('each mounted volume is trimmed once a day, even if the trim of another one fails', async (t) => {
  const node = await fakeNode(t);
  const { trimsAfter, domain } = await trimmedNode(node, {
    one: 'periodic',
    two: 'periodic',
    never: 'off',
    'at-once': 'online',
  });
  t.is(await trimsAfter(0), 0, 'new volumes are not due');
  t.is(await trimsAfter(22), 0);
  node.host.failNext('mounts.trim', new KernelError('FITRIM', 'EIO', 'a test'));
  t.is(await trimsAfter(2), 2);
  t.is(await trimsAfter(1), 0);
  t.is(await trimsAfter(23), 2);
  const [measures] = (await makeMeasure(domain(), { timeoutMs: 1_000 })()).pools;
  t.deepEqual(measures?.trims.runs, { done: 3, failed: 1, interrupted: 0 });
});

test('a driver that is restarted more often than daily still trims', async (t) => {
  const node = await fakeNode(t);
  const { trimsAfter, restart } = await trimmedNode(node, { one: 'periodic' });
  let trims = 0;
  for (let part = 0; part < 8; part += 1) {
    trims += await trimsAfter(12);
    await restart();
  }
  t.is(trims, 4, 'four days');
});

test('the record of the last trim keeps fields of a later version', async (t) => {
  const node = await fakeNode(t);
  const { trimsAfter, domain } = await trimmedNode(node, { one: 'periodic' });
  t.is(await trimsAfter(24), 1);
  const [volume] = [...domain().pools.named('a').images()];
  const path = join(dirname(volume?.imagePath ?? ''), 'trim.json');
  const first = JSON.parse(await readFile(path, 'utf8')) as { trimmedAtMs: number };
  await writeFile(path, JSON.stringify({ ...first, later: 'kept' }));
  t.is(await trimsAfter(24), 1);
  t.deepEqual(JSON.parse(await readFile(path, 'utf8')), {
    schemaVersion: 1,
    trimmedAtMs: first.trimmedAtMs + 24 * hourMs,
    later: 'kept',
  });
});

test('a record of a later version is kept, and the volume is still trimmed once a day', async (t) => {
  const node = await fakeNode(t);
  const { trimsAfter, domain } = await trimmedNode(node, { one: 'periodic' });
  const [volume] = [...domain().pools.named('a').images()];
  const path = join(dirname(volume?.imagePath ?? ''), 'trim.json');
  const later = '{"schemaVersion":2,"trimmedAtNs":"1"}';
  await writeFile(path, later);
  t.is(await trimsAfter(24), 1);
  t.is(await trimsAfter(12), 0);
  t.is(await trimsAfter(12), 1);
  t.is(await readFile(path, 'utf8'), later);
});

test('a damaged record of the last trim is replaced', async (t) => {
  const node = await fakeNode(t);
  const { trimsAfter, restart, domain } = await trimmedNode(node, { one: 'periodic' });
  const [volume] = [...domain().pools.named('a').images()];
  await writeFile(join(dirname(volume?.imagePath ?? ''), 'trim.json'), '{');
  t.is(await trimsAfter(24), 1);
  await restart();
  t.is(await trimsAfter(12), 0);
});

test('a clock that was set back does not stop trims until it has caught up', async (t) => {
  const node = await fakeNode(t);
  const { trimsAfter } = await trimmedNode(node, { one: 'periodic' });
  t.is(await trimsAfter(24), 1);
  t.is(await trimsAfter(-24 * 365), 1);
  t.is(await trimsAfter(1), 0);
  t.is(await trimsAfter(23), 1);
});

test('volumes created together are not all due at the same time', async (t) => {
  const node = await fakeNode(t);
  const names = Object.fromEntries(
    Array.from({ length: 12 }, (_, i) => [`v${i}`, 'periodic'] as const),
  );
  const { trimsAfter } = await trimmedNode(node, names);
  const early = await trimsAfter(23.5);
  t.true(early > 0 && early < 12, `${early} of 12`);
  t.is(await trimsAfter(0.5), 12 - early);
});
