import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

const sizeBytes = 32n * MiB;
const otherwise = [
  ['a larger size', volumeInput('v', { sizeBytes: 2n * sizeBytes })],
  ['a size below what it has', volumeInput('v', { range: { requiredBytes: 1n, limitBytes: MiB } })],
  ['another kind', volumeInput('v', { sizeBytes, kind: 'block' })],
  ['another filesystem', volumeInput('v', { sizeBytes, fsType: 'btrfs' })],
  [
    'other sectors',
    volumeInput('v', { sizeBytes, settings: { ...plainSettings, sectorSize: 512 } }),
  ],
  ['another trim', volumeInput('v', { sizeBytes, settings: { ...plainSettings, trim: 'online' } })],
] as const;

for (const [name, input] of otherwise) {
  test(`a request for an existing volume with ${name} is a conflict, and the volume is unchanged`, async (t) => {
    const node = await fakeNode(t);
    const { volumes } = await node.open([node.settings('a')]);
    const asked = volumeInput('v', { sizeBytes });
    const made = await volumes.createVolume(call(), asked);
    t.is(await reasonOf(volumes.createVolume(call(), input)), 'conflict');
    t.deepEqual(await volumes.createVolume(call(), asked), made);
  });
}

test('a volume with the same name but another source, or none, is a conflict', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const ids: string[] = [];
  for (const name of ['one', 'two']) {
    const { record } = await volumes.createVolume(call(), volumeInput(name, { sizeBytes }));
    ids.push(record.id);
  }
  const copyOf = (id = '') =>
    volumeInput('copy', { sizeBytes, source: id === '' ? null : { kind: 'volume', id } });
  const answers: string[] = [];
  for (const id of [ids[0], ids[0], ids[1], '']) {
    answers.push(await reasonOf(volumes.createVolume(call(), copyOf(id))));
  }
  t.deepEqual(answers, ['ok', 'ok', 'conflict', 'conflict']);
});

test('deleting a volume of another node fails', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  t.is(await reasonOf(volumes.deleteVolume(call(), 'v.0badcafe')), 'wrong-state');
  t.is(await reasonOf(volumes.deleteVolume(call(), 'of no form of ours')), 'ok');
});

test('a deleted volume is neither found nor listed, and its name is free', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const { record } = await volumes.createVolume(call(), volumeInput('v', { sizeBytes }));
  await volumes.deleteVolume(call(), record.id);
  t.is(await reasonOf(volumes.getVolume(record.id)), 'not-found');
  const { entries } = await volumes.listVolumes({ maxEntries: 0, startingToken: '' });
  t.deepEqual(entries, []);
  const other = volumeInput('v', { sizeBytes, kind: 'block' });
  t.is((await volumes.createVolume(call(), other)).record.kind, 'block');
});

test('a delete aborts the copy that creates its volume, and nothing is left', async (t) => {
  const node = await fakeNode(t);
  const { volumes, domain } = await node.open([node.settings('a')]);
  const { record } = await volumes.createVolume(call(), volumeInput('v', { sizeBytes }));
  const { copies } = node.host;
  const copySparse = copies.copySparse.bind(copies);
  const id = `copy.${domain.settings.nodeTag}`;
  let deleted = '';
  copies.copySparse = async (from, to, options) => {
    deleted = await reasonOf(volumes.deleteVolume(call(), id));
    await copySparse(from, to, options);
  };
  const source = { kind: 'volume', id: record.id } as const;
  const made = volumes.createVolume(call(), volumeInput('copy', { sizeBytes, source }));
  t.is(await reasonOf(made), 'cancelled');
  t.is(deleted, 'busy', 'the caller retries');
  t.deepEqual(await readdir(join(node.directory, 'a', 'tmp')), []);
  t.is(await reasonOf(volumes.deleteVolume(call(), id)), 'ok');
});
