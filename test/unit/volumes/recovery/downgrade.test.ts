import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MiB } from '../../../../src/units.ts';
import { checkUnconfiguredPoolsOffline } from '../../../../src/volumes/admin/doctor-pools.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

/** A node with one volume, whose driver can be opened again with files of a later version. */
async function nodeWithVolume(t: ExecutionContext) {
  const node = await fakeNode(t, { reflink: true });
  const settings = node.settings('a');
  const first = await node.open([settings]);
  const input = volumeInput('v', { sizeBytes: 16n * MiB });
  const { record } = await first.volumes.createVolume(call(), input);
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const staging = { volumeId: record.id, stagingTargetPath };
  /** Writes a file of a later version, opens the driver again, and returns it with the text of the file. */
  const downgrade = async (path: string) => {
    await first.close(100);
    const text = '{"schemaVersion":2,"onlyHere":"kept"}\n';
    await writeFile(path, text);
    const opened = await node.open([settings]);
    return { ...opened, isKept: async () => (await readFile(path, 'utf8')) === text };
  };
  return {
    node,
    settings,
    first,
    record,
    staging,
    downgrade,
    entry: join(settings.path, 'volumes', record.id),
  };
}

test('node.json of a later version: the volume is listed and unstaged, but not staged, and the file is kept', async (t) => {
  const { first, staging, downgrade, entry } = await nodeWithVolume(t);
  await first.volumes.stageVolume(call(), { ...staging, capability: capability() });
  const { volumes, administration, isKept, domain } = await downgrade(join(entry, 'node.json'));
  t.is(
    (await administration.listVolumes({ maxEntries: 0, startingToken: '', pool: '' })).entries
      .length,
    1,
  );
  const staged = { ...staging, capability: capability() };
  const error = await t.throwsAsync(volumes.stageVolume(call(), staged));
  t.regex(error.message, /node\.json was written by a later version .*upgrade the driver/);
  t.is(await reasonOf(volumes.stageVolume(call(), staged)), 'wrong-state');
  t.is(await reasonOf(volumes.unstageVolume(call(), staging)), 'ok');
  t.deepEqual(await domain.host.mounts.list(), []);
  t.true(await isKept());
  const devices = (await domain.host.loops.list()).length;
  t.is(await reasonOf(volumes.stageVolume(call(), staged)), 'wrong-state');
  t.is((await domain.host.loops.list()).length, devices, 'a refused call attaches nothing');
});

test('a deleted volume takes its node.json of a later version with it', async (t) => {
  const { record, downgrade, entry } = await nodeWithVolume(t);
  const { volumes } = await downgrade(join(entry, 'node.json'));
  t.is(await reasonOf(volumes.deleteVolume(call(), record.id)), 'ok');
  t.is(await reasonOf(volumes.getVolume(record.id)), 'not-found');
});

test('volume.json of a later version: the volume is refused by name, and neither used nor deleted', async (t) => {
  const { record, downgrade, entry, staging } = await nodeWithVolume(t);
  const { volumes, isKept } = await downgrade(join(entry, 'volume.json'));
  const error = await t.throwsAsync(volumes.getVolume(record.id));
  t.regex(error.message, /volume\.json was written by a later version/);
  const range = { requiredBytes: 32n * MiB, limitBytes: 0n };
  const input = volumeInput('v', { sizeBytes: 16n * MiB });
  for (const refused of [
    () => volumes.deleteVolume(call(), record.id),
    () => volumes.stageVolume(call(), { ...staging, capability: capability() }),
    () => volumes.createVolume(call(), input),
    () => volumes.expandVolume(call(), { volumeId: record.id, range }),
  ]) {
    t.is(await reasonOf(refused()), 'wrong-state', String(refused));
  }
  t.true(await isKept());
});

test('snapshot.json and group.json of a later version: neither used nor deleted', async (t) => {
  const { first, record, settings, downgrade } = await nodeWithVolume(t);
  const input = { parameters: {}, settings: { freeze: false } };
  const group = await first.volumes.createGroupSnapshot(call(), {
    ...input,
    name: 'g',
    sourceVolumeIds: [record.id],
  });
  const member = group.snapshots[0]?.record.id ?? '';
  const groupPath = join(settings.path, 'groups', group.record.id, 'group.json');
  const opened = await downgrade(groupPath);
  const { volumes, isKept } = opened;
  t.is(
    await reasonOf(volumes.deleteGroupSnapshot(call(), group.record.id, [member])),
    'wrong-state',
  );
  t.true(await isKept());
  t.is(await reasonOf(volumes.getSnapshot(member)), 'ok', 'its members are kept');
  await opened.close(100);
  const again = await downgrade(join(settings.path, 'snapshots', member, 'snapshot.json'));
  t.is(await reasonOf(again.volumes.deleteSnapshot(call(), member)), 'wrong-state');
  t.true(await again.isKept());
});

test('pool.json of a later version: the pool is not served, and the message says so', async (t) => {
  const { record, settings, downgrade } = await nodeWithVolume(t);
  const { volumes, administration, isKept } = await downgrade(join(settings.path, 'pool.json'));
  const [pool] = await administration.listPools();
  t.regex(pool?.problem ?? '', /pool\.json was written by a later version .*upgrade the driver/);
  t.is(await reasonOf(volumes.getVolume(record.id)), 'unavailable');
  for (const command of ['adoptPool', 'recoverPool'] as const) {
    const { message } = await t.throwsAsync(administration[command]('a'));
    t.regex(message, /later version/);
  }
  t.true(await isKept());
});

test('pools.json of a later version: the driver does not start, and doctor says why', async (t) => {
  const { node, downgrade } = await nodeWithVolume(t);
  const path = join(node.directory, 'state', 'pools.json');
  const error = await t.throwsAsync(downgrade(path));
  t.regex(error.message, /pools\.json was written by a later version .*upgrade the driver/);
  t.regex(await readFile(path, 'utf8'), /kept/);
  const [finding] = await checkUnconfiguredPoolsOffline(
    node.host,
    join(node.directory, 'state'),
    [],
  );
  t.is(finding?.state, 'fail');
  t.regex(finding?.message ?? '', /later version/);
});
