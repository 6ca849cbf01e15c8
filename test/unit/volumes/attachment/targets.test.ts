import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

test("a target is below the kubelet's directory, and its path has no symbolic link", async (t) => {
  const node = await fakeNode(t);
  const kubeletDir = join(node.directory, 'kubelet');
  const outside = join(node.directory, 'outside');
  for (const path of [kubeletDir, outside]) await mkdir(path);
  await symlink(outside, join(kubeletDir, 'link'));
  await mkdir(join(kubeletDir, 'real'));
  await symlink('real', join(kubeletDir, 'within'));
  const { volumes } = await node.open([node.settings('a')], {
    kubeletDir,
  });
  const { record } = await volumes.createVolume(call(), volumeInput('v'));
  const stage = (stagingTargetPath: string) =>
    volumes.stageVolume(call(), {
      volumeId: record.id,
      stagingTargetPath,
      capability: capability(),
    });
  t.is(await reasonOf(stage(outside)), 'invalid');
  t.is(await reasonOf(stage(`${kubeletDir}-other`)), 'invalid');
  t.is(await reasonOf(stage(join(kubeletDir, 'link', 'staging'))), 'wrong-state');
  t.is(await reasonOf(stage(join(kubeletDir, 'within', 'staging'))), 'wrong-state');
  t.deepEqual(await node.host.mounts.list(), []);
  t.deepEqual(await node.host.loops.list(), []);
  t.is(await reasonOf(stage(join(kubeletDir, 'staging'))), 'ok');
});

test('a target that holds data is never removed', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const { record } = await volumes.createVolume(call(), volumeInput('v'));
  const file = join(node.directory, 'file');
  await writeFile(file, 'data');
  const directory = join(node.directory, 'directory');
  await mkdir(directory);
  await writeFile(join(directory, 'file'), 'data');
  for (const targetPath of [file, directory]) {
    const asked = { volumeId: record.id, targetPath };
    t.is(await reasonOf(volumes.unpublishVolume(call(), asked)), 'wrong-state', targetPath);
  }
  for (const path of [file, join(directory, 'file')]) t.is(await readFile(path, 'utf8'), 'data');
});

test('a mount hides no files, no staging mount, no pool and no mount of the driver', async (t) => {
  const node = await fakeNode(t);
  const mountDir = join(node.directory, 'own');
  const { volumes } = await node.open([node.settings('a')], {
    mountDir,
  });
  const stagingOf = (name: string) => join(node.directory, `staging-${name}`);
  const idOf = async (kind: 'mount' | 'block'): Promise<string> => {
    const { record } = await volumes.createVolume(call(), volumeInput(kind, { kind }));
    await mkdir(stagingOf(kind));
    await volumes.stageVolume(call(), {
      volumeId: record.id,
      stagingTargetPath: stagingOf(kind),
      capability: capability({ kind }),
    });
    return record.id;
  };
  const ids = { mount: await idOf('mount'), block: await idOf('block') };
  const publish = (kind: 'mount' | 'block', targetPath: string) =>
    reasonOf(
      volumes.publishVolume(call(), {
        volumeId: ids[kind],
        stagingTargetPath: stagingOf(kind),
        targetPath,
        capability: capability({ kind }),
        readOnly: false,
      }),
    );
  const [full, file, empty] = ['full', 'file', 'empty'].map((name) => join(node.directory, name));
  for (const path of [full, empty]) await mkdir(path ?? '');
  await writeFile(join(full ?? '', 'file'), 'data');
  await writeFile(file ?? '', 'data');
  const before = (await node.host.mounts.list()).length;
  t.is(await publish('mount', full ?? ''), 'wrong-state');
  t.is(await publish('mount', file ?? ''), 'wrong-state');
  t.is(await publish('block', file ?? ''), 'wrong-state');
  t.is(await publish('block', empty ?? ''), 'wrong-state');
  t.is(await publish('mount', stagingOf('mount')), 'invalid');
  t.is(await publish('mount', join(stagingOf('mount'), 'below')), 'invalid');
  t.is(await publish('mount', join(node.directory, 'a', 'volumes', 'target')), 'invalid');
  t.is(await publish('mount', join(mountDir, 'target')), 'invalid');
  t.is((await node.host.mounts.list()).length, before);
  t.is(await publish('mount', empty ?? ''), 'ok');
});

for (const kind of ['mount', 'block'] as const) {
  test(`unpublishing the staging path of a ${kind} volume unmounts nothing`, async (t) => {
    const node = await fakeNode(t);
    const { volumes } = await node.open([node.settings('a')]);
    const { record } = await volumes.createVolume(call(), volumeInput('v', { kind }));
    const stagingTargetPath = join(node.directory, 'staging');
    await mkdir(stagingTargetPath);
    const volumeId = record.id;
    const staged = { volumeId, stagingTargetPath, capability: capability({ kind }) };
    await volumes.stageVolume(call(), staged);
    const before = await node.host.mounts.list();
    for (const { target: targetPath } of before) {
      const asked = volumes.unpublishVolume(call(), { volumeId, targetPath });
      t.is(await reasonOf(asked), 'invalid', targetPath);
    }
    t.deepEqual(await node.host.mounts.list(), before);
    await volumes.unstageVolume(call(), { volumeId, stagingTargetPath });
    t.deepEqual(await node.host.mounts.list(), []);
  });
}
