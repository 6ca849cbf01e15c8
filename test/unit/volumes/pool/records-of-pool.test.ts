import { cp, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';

test('an entry with a wrong record is set aside: its pool is served, and no call reports that it does not exist', async (t) => {
  const node = await fakeNode(t);
  const open = () => node.open([node.settings('a')]);
  const before = await open();
  const input = volumeInput('v', { sizeBytes: 16n * MiB });
  const { record } = await before.volumes.createVolume(call(), input);
  await before.close(100);
  const pathOf = (id: string) => join(node.directory, 'a', 'volumes', id);
  const idOf = (name: string) => `${name}.${record.id.slice(-8)}`;
  // The record of a manual copy has the id of the original.
  await cp(pathOf(record.id), pathOf(idOf('copied')), { recursive: true });
  await mkdir(pathOf(idOf('torn')));
  await writeFile(join(pathOf(idOf('torn')), 'volume.json'), '{"schemaVersion": 1');
  await mkdir(pathOf(idOf('empty')));
  const { volumes } = await open();
  t.is(await reasonOf(volumes.getVolume(record.id)), 'ok');
  for (const name of ['copied', 'torn', 'empty']) {
    t.is(await reasonOf(volumes.getVolume(idOf(name))), 'internal', name);
    t.is(await reasonOf(volumes.createVolume(call(), volumeInput(name))), 'internal', name);
  }
  const { entries } = await volumes.listVolumes({ maxEntries: 0, startingToken: '' });
  t.deepEqual(
    entries.map(({ record: one }) => one.id),
    [record.id],
  );
  const troubled = await volumes.listVolumeHealth({ maxEntries: 2, startingToken: '' });
  t.deepEqual(
    troubled.entries.map(({ volumeId, conditions }) => [volumeId, conditions[0]?.reason]),
    ['copied', 'empty'].map((name) => [idOf(name), 'RecordUnreadable']),
  );
  const rest = await volumes.listVolumeHealth({
    maxEntries: 2,
    startingToken: troubled.nextToken,
  });
  t.deepEqual(
    rest.entries.map(({ volumeId }) => volumeId),
    [idOf('torn')],
  );
});

test('the target of a symbolic link in a pool is not deleted with it', async (t) => {
  const node = await fakeNode(t);
  const open = () => node.open([node.settings('a')]);
  const before = await open();
  const { record } = await before.volumes.createVolume(call(), volumeInput('v'));
  await before.close(100);
  const outside = join(node.directory, 'outside');
  await mkdir(outside);
  await writeFile(join(outside, 'file'), 'kept');
  const pathOf = (...names: string[]) => join(node.directory, 'a', ...names);
  const linked = `linked${record.id.slice(-9)}`;
  for (const link of [pathOf('trash', 'x'), pathOf('tmp', 'x'), pathOf('volumes', linked)]) {
    await symlink(outside, link);
  }
  await rm(pathOf('volumes', record.id, 'disk.img'));
  await symlink(join(outside, 'file'), pathOf('volumes', record.id, 'disk.img'));
  const { volumes, domain } = await open();
  for (const id of [linked, record.id]) await volumes.deleteVolume(call(), id);
  await domain.trash.whenIdle();
  t.is(await readFile(join(outside, 'file'), 'utf8'), 'kept');
  for (const area of ['trash', 'tmp', 'volumes'])
    t.deepEqual(await readdir(pathOf(area)), [], area);
});
