import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

test('the usage has space and I/O of attached volumes, and the space of all', async (t) => {
  const node = await fakeNode(t);
  const { volumes, administration } = await node.open([node.settings('a'), node.settings('b')]);
  const ids: string[] = [];
  for (const name of ['v2', 'v1']) {
    const input = volumeInput(name, {
      sizeBytes: 16n * MiB,
      settings: { ...plainSettings, pool: 'a' },
    });
    ids.push((await volumes.createVolume(call(), input)).record.id);
  }
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const volumeId = ids[0] ?? '';
  await volumes.stageVolume(call(), { volumeId, stagingTargetPath, capability: capability() });
  const { volumes: usages, measuredMs } = await administration.measureVolumes('');
  t.true(measuredMs > 0);
  t.deepEqual(
    usages.map(({ record }) => record.name),
    ['v1', 'v2'],
    'in the order of the ids',
  );
  const [idle, staged] = usages;
  t.is(idle?.io, undefined);
  t.is(idle?.filesystem, undefined);
  t.not(staged?.io, undefined);
  t.not(staged?.filesystem, undefined);
  t.deepEqual((await administration.measureVolumes('b')).volumes, []);
  t.is(await reasonOf(administration.measureVolumes('none')), 'invalid');
});

test('the usage of filesystems is added to a list on request; those of other volumes are still remembered', async (t) => {
  const node = await fakeNode(t);
  const { volumes, administration } = await node.open([node.settings('a')]);
  for (const name of ['v1', 'v2', 'idle']) {
    const { record } = await volumes.createVolume(
      call(),
      volumeInput(name, { sizeBytes: 16n * MiB }),
    );
    if (name === 'idle') continue;
    const stagingTargetPath = join(node.directory, name);
    await mkdir(stagingTargetPath);
    const request = { volumeId: record.id, stagingTargetPath, capability: capability() };
    await volumes.stageVolume(call(), request);
  }
  const queries = (): number =>
    node.host.watch.calls.filter(
      ({ name, args }) => name === 'files.capacity' && /\/v\d$/.test(String(args[0])),
    ).length;
  const { entries } = await administration.listVolumes({
    maxEntries: 0,
    startingToken: '',
    pool: '',
  });
  t.is(queries(), 0);
  const measured = await administration.withFilesystems(entries);
  t.deepEqual(
    measured.map(({ record, filesystem }) => [record.name, filesystem !== undefined]),
    [
      ['idle', false],
      ['v1', true],
      ['v2', true],
    ],
  );
  t.is(queries(), 2);
  const [one] = await administration.withFilesystems(measured.slice(1, 2));
  t.not(one?.filesystem, undefined);
  await administration.withFilesystems(entries);
  t.is(queries(), 2, 'without new writes, no filesystem is queried again');
});

test('groups are listed with their members, by id', async (t) => {
  const node = await fakeNode(t, { reflink: true });
  const { volumes, administration } = await node.open([node.settings('a')]);
  const { record } = await volumes.createVolume(
    call(),
    volumeInput('v', { kind: 'block', sizeBytes: 4n * MiB }),
  );
  t.deepEqual(await administration.listGroupSnapshots(), []);
  for (const name of ['h', 'g']) {
    await volumes.createGroupSnapshot(call(), {
      name,
      sourceVolumeIds: [record.id],
      settings: { freeze: false },
      parameters: {},
    });
  }
  const groups = await administration.listGroupSnapshots();
  t.deepEqual(
    groups.map(({ name, sourceVolumeIds }) => ({ name, sourceVolumeIds })),
    ['g', 'h'].map((name) => ({ name, sourceVolumeIds: [record.id] })),
  );
  const snapshot = await administration.getSnapshot(groups[0]?.snapshotIds[0] ?? '');
  t.is(snapshot.sourceVolumeName, 'v');
  await volumes.deleteVolume(call(), record.id);
  t.is((await administration.getSnapshot(snapshot.record.id)).sourceVolumeName, undefined);
});
