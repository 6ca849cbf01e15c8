import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { labelOf, truncatedLabelOf } from '../../../../src/host/loop/status.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

const beginning = 'x'.repeat(90);

test('an id that fits is the label; longer ids get different labels that fit', (t) => {
  t.is(labelOf('pvc-1234.562f2833'), 'loopcsi:pvc-1234.562f2833');
  const longest = 'y'.repeat(55);
  t.is(labelOf(longest), `loopcsi:${longest}`);
  const ids = [`${longest}a`, `${longest}b`, `${beginning}a`, `${beginning}b`, 'ä'.repeat(40)];
  t.is(new Set(ids.map(labelOf)).size, ids.length);
  for (const id of ids) t.true(Buffer.byteLength(labelOf(id)) <= 63, labelOf(id));
});

/** Two attached volumes whose ids have the same beginning and whose records cannot be read. */
async function unreadable(t: ExecutionContext, labelFor: (id: string) => string) {
  const node = await fakeNode(t);
  const first = await node.open([node.settings('a')]);
  const ids: string[] = [];
  for (const end of ['one', 'two']) {
    const { record } = await first.volumes.createVolume(call(), volumeInput(`${beginning}${end}`));
    ids.push(record.id);
  }
  await first.close(100);
  for (const id of ids) {
    const directory = join(node.directory, 'a', 'volumes', id);
    await writeFile(join(directory, 'volume.json'), '{');
    node.host.kernel.attach(join(directory, 'disk.img'), {
      readOnly: false,
      directIo: true,
      discard: true,
      sectorSize: 4096,
      label: labelFor(id),
      autoclear: false,
      held: false,
    });
  }
  // A start would detach unused devices.
  const close = await Promise.all(
    [0, 1].map((number) => node.host.otherSoftware.openDevice(number)),
  );
  const { volumes } = await node.open([node.settings('a')]);
  for (const one of close) await one();
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  return { node, volumes, ids, stagingTargetPath };
}

for (const [name, labelFor] of [
  ['complete', labelOf],
  ['truncated by an older driver', truncatedLabelOf],
] as const) {
  test(`a label that is ${name} matches the devices of its own volume only`, async (t) => {
    const { node, volumes, ids, stagingTargetPath } = await unreadable(t, labelFor);
    const [volumeId = ''] = ids;
    t.is((await node.host.loops.list()).length, 2);
    await volumes.unstageVolume(call(), { volumeId, stagingTargetPath });
    t.deepEqual(
      (await node.host.loops.list()).map(({ number }) => number),
      [1],
    );
  });
}

test('an idle volume can be unstaged while another one with the same label is in use', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const made = [];
  for (const end of ['one', 'two']) {
    const { record } = await volumes.createVolume(call(), volumeInput(`${beginning}${end}`));
    const stagingTargetPath = join(node.directory, end);
    await mkdir(stagingTargetPath);
    made.push({ volumeId: record.id, stagingTargetPath, capability: capability() });
  }
  const [idle, used] = made;
  if (idle === undefined || used === undefined) throw new Error('there are two');
  await volumes.stageVolume(call(), used);
  await volumes.unstageVolume(call(), idle);
  await volumes.unpublishVolume(call(), {
    volumeId: idle.volumeId,
    targetPath: join(node.directory, 'target'),
  });
  t.is((await node.host.mounts.list()).length, 1);
  await volumes.unstageVolume(call(), used);
});
