import { lstat, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MiB } from '../../../src/units.ts';
import { mountManually, unmountManually } from '../../../src/volumes/admin/manual-mount.ts';
import { onNode } from '../../helpers/on-node.ts';
import { reasonOf } from '../../helpers/reason-of.ts';
import {
  call,
  capability,
  mountVolume,
  plainSettings,
  type ScratchNode,
  scratchNode,
  unmountVolume,
  volumeInput,
} from '../../helpers/scratch-node.ts';

/** All entries below the node's directory and the content of its JSON files; a refused call must not change them. */
async function everything(node: ScratchNode): Promise<readonly string[]> {
  const found: string[] = [];
  for (const entry of await readdir(node.directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const isJson = entry.name.endsWith('.json');
    const { mode, size } = await lstat(path);
    found.push(`${path} ${mode} ${isJson ? await readFile(path, 'utf8') : size}`);
  }
  return found.sort();
}

const ephemeral = { sizeBytes: 16n * MiB, settings: plainSettings };

onNode(
  'a target that holds data, or at which a mount would hide other mounts, is refused',
  async (t) => {
    const node = await scratchNode(t);
    const { record } = await node.volumes.createVolume(
      call(),
      volumeInput('one', { sizeBytes: 16n * MiB }),
    );
    const request = { capability: capability({ accessMode: 'SINGLE_NODE_MULTI_WRITER' }) };
    const paths = await mountVolume(node, record.id, request.capability);
    const { stagingTargetPath } = paths;

    await mkdir(node.pathOf('full'));
    await writeFile(node.pathOf('full/precious'), 'mine');
    await writeFile(node.pathOf('file'), '');
    await symlink(node.pathOf('full'), node.pathOf('link'));
    const refused = [
      [node.pathOf('full'), 'wrong-state'],
      [node.pathOf('file'), 'wrong-state'],
      [node.pathOf('link'), 'wrong-state'],
      [node.pathOf('no/parent'), 'wrong-state'],
      [stagingTargetPath, 'invalid'],
      [join(stagingTargetPath, 'below'), 'invalid'],
      [node.poolPath, 'invalid'],
      [join(node.poolPath, 'tmp'), 'invalid'],
      [join(node.poolPath, 'volumes', record.id, 'x'), 'invalid'],
    ] as const;
    const before = await everything(node);
    for (const [targetPath, reason] of refused) {
      const input = {
        ...request,
        volumeId: record.id,
        stagingTargetPath,
        targetPath,
        readOnly: false,
      };
      t.is(await reasonOf(node.volumes.publishVolume(call(), input)), reason, targetPath);
      if (targetPath.startsWith(stagingTargetPath)) continue;
      const inline = { ...input, volumeId: 'inline', ephemeral };
      t.is(await reasonOf(node.volumes.publishVolume(call(), inline)), reason, targetPath);
    }
    // The inline volume whose target's parent is missing was created before the refusal, and is now being freed.
    await node.domain.trash.whenIdle();
    t.deepEqual(await everything(node), before);
    await unmountVolume(node, record.id, paths);
  },
);

onNode('an operator may mount over files, which reappear afterwards', async (t) => {
  const node = await scratchNode(t);
  const input = volumeInput('one', { sizeBytes: 16n * MiB });
  const { record } = await node.volumes.createVolume(call(), input);
  await mkdir(node.pathOf('full'));
  await writeFile(node.pathOf('full/precious'), 'mine');

  const request = {
    directory: node.pathOf('mounts'),
    volumeId: record.id,
    targetPath: node.pathOf('full'),
  };
  await mountManually(node.domain, call(), { ...request, readOnly: false, mountFlags: [] });
  t.deepEqual(await readdir(node.pathOf('full')), ['lost+found']);
  await unmountManually(node.domain, call(), request);
  t.is(await readFile(node.pathOf('full/precious'), 'utf8'), 'mine');
});

onNode('unpublish and unstage of a volume that was never mounted write nothing', async (t) => {
  const node = await scratchNode(t);
  const input = volumeInput('one', { sizeBytes: 16n * MiB });
  const { record } = await node.volumes.createVolume(call(), input);
  const before = await everything(node);
  const paths = { stagingTargetPath: node.pathOf('staging'), targetPath: node.pathOf('target') };
  await unmountVolume(node, record.id, paths);
  t.deepEqual(await everything(node), before);
});
