import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { VolumeError } from '../../../../src/errors.ts';
import { nodeTagOf, snapshotIdFor, volumeIdFor } from '../../../../src/ids.ts';
import { MiB } from '../../../../src/units.ts';
import type { VolumeSource } from '../../../../src/volumes/model.ts';
import { fakeNode, fakeSettings } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

const sizeBytes = 32n * MiB;
const there = nodeTagOf('node-b');
const longName = 'a name so long that only its hash is in an id '.repeat(3);

const sources: readonly { name: string; source: VolumeSource; reason: string }[] = [
  {
    name: 'a snapshot of another node',
    source: { kind: 'snapshot', id: snapshotIdFor('s', there) },
    reason: 'no-space',
  },
  {
    name: 'a volume of another node',
    source: { kind: 'volume', id: volumeIdFor('v', there) },
    reason: 'no-space',
  },
  {
    name: 'a snapshot of another node whose name is hashed',
    source: { kind: 'snapshot', id: snapshotIdFor(longName, there) },
    reason: 'no-space',
  },
  {
    name: 'a snapshot of this node that does not exist',
    source: { kind: 'snapshot', id: snapshotIdFor('gone', fakeSettings.nodeTag) },
    reason: 'not-found',
  },
  {
    name: 'a volume of this node that does not exist',
    source: { kind: 'volume', id: volumeIdFor('gone', fakeSettings.nodeTag) },
    reason: 'not-found',
  },
  {
    name: 'an id without a tag',
    source: { kind: 'snapshot', id: 'snapshot-1' },
    reason: 'not-found',
  },
  {
    name: 'an id with text after its tag',
    source: { kind: 'volume', id: `v.${there}0` },
    reason: 'not-found',
  },
  {
    name: 'an id that would be a path',
    source: { kind: 'snapshot', id: `../s.${there}` },
    reason: 'not-found',
  },
];

for (const { name, source, reason } of sources) {
  test(`a volume from ${name} is refused with ${reason}, and nothing is created`, async (t) => {
    const node = await fakeNode(t);
    const { volumes } = await node.open([node.settings('a')]);
    const input = volumeInput('copy', { sizeBytes, source });
    t.is(await reasonOf(volumes.createVolume(call(), input)), reason);
    t.deepEqual(await readdir(join(node.directory, 'a', 'volumes')), []);
    t.deepEqual(await readdir(join(node.directory, 'a', 'tmp')), []);
  });
}

test('the message names the node of the source by its tag, and by its id if the request mentions it', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const id = snapshotIdFor('s', there);
  const messageFor = async (mentionedNodeIds: readonly string[]): Promise<string> => {
    const source = { kind: 'snapshot', id } as const;
    const input = volumeInput('copy', { sizeBytes, source, mentionedNodeIds });
    const error = await t.throwsAsync(volumes.createVolume(call(), input), {
      instanceOf: VolumeError,
    });
    return error.message;
  };
  const unnamed = await messageFor(['test-node', 'node-c']);
  t.true(unnamed.includes(`snapshot '${id}', is on the node with tag ${there}`), unnamed);
  t.true(unnamed.includes(`this is the node with tag ${nodeTagOf('test-node')}`), unnamed);
  t.false(unnamed.includes('node-c'), unnamed);
  const named = await messageFor(['test-node', 'node-b', 'node-c']);
  t.true(named.includes(`is on node 'node-b' (tag ${there})`), named);
});

test('a source on another node is reported even while a pool of this node is not served', async (t) => {
  const node = await fakeNode(t);
  const away = node.settings('away', { create: false });
  const { volumes } = await node.open([node.settings('a'), away]);
  const from = (id: string, pool?: string) =>
    volumeInput('copy', {
      sizeBytes,
      source: { kind: 'snapshot', id },
      settings: { ...plainSettings, pool },
    });
  const elsewhere = snapshotIdFor('s', there);
  const here = snapshotIdFor('s', fakeSettings.nodeTag);
  t.is(await reasonOf(volumes.createVolume(call(), from(elsewhere))), 'no-space');
  t.is(await reasonOf(volumes.createVolume(call(), from(elsewhere, 'away'))), 'no-space');
  t.is(await reasonOf(volumes.createVolume(call(), from(elsewhere, 'a'))), 'no-space');
  // It may be in the pool that is not served.
  t.is(await reasonOf(volumes.createVolume(call(), from(here))), 'unavailable');
  t.is(await reasonOf(volumes.createVolume(call(), from(here, 'a'))), 'unavailable');
});

test('a request with another source for an existing volume is a conflict, whichever node that source is on', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  await volumes.createVolume(call(), volumeInput('v', { sizeBytes }));
  const source = { kind: 'volume', id: volumeIdFor('other', there) } as const;
  const input = volumeInput('v', { sizeBytes, source });
  t.is(await reasonOf(volumes.createVolume(call(), input)), 'conflict');
});

test('a repeated call that mentions other nodes joins the first', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const { files } = node.host;
  const createImage = files.createImage.bind(files);
  const repeated: Promise<string>[] = [];
  files.createImage = async (path, options) => {
    if (repeated.length === 0) {
      const again = volumeInput('v', { sizeBytes, mentionedNodeIds: ['node-c'] });
      repeated.push(reasonOf(volumes.createVolume(call(), again)));
    }
    await createImage(path, options);
  };
  const first = volumeInput('v', { sizeBytes, mentionedNodeIds: ['node-b'] });
  t.is(await reasonOf(volumes.createVolume(call(), first)), 'ok');
  t.deepEqual(await Promise.all(repeated), ['ok']);
});

test('a snapshot that a pool which is not served may have is not listed as gone', async (t) => {
  const node = await fakeNode(t);
  const away = node.settings('away', { create: false });
  const { volumes } = await node.open([node.settings('a'), away]);
  const page = { maxEntries: 0, startingToken: '' };
  const here = snapshotIdFor('s', fakeSettings.nodeTag);
  t.is(await reasonOf(volumes.listSnapshots({ ...page, snapshotId: here })), 'unavailable');
  t.deepEqual((await volumes.listSnapshots({ ...page, snapshotId: 'no id' })).entries, []);
  t.is(await reasonOf(volumes.listSnapshots(page)), 'unavailable');
});
