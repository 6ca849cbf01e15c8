import { mkdir, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fsTypes } from '../../src/host/host.ts';
import { MiB } from '../../src/units.ts';
import { onNode } from '../helpers/on-node.ts';
import { realOtherSoftware } from '../helpers/other-software.ts';
import { reasonOf } from '../helpers/reason-of.ts';
import {
  call,
  capability,
  mountVolume,
  scratchNode,
  unmountVolume,
  volumeInput,
} from '../helpers/scratch-node.ts';
import { mountsBelow } from '../helpers/scratch-pool.ts';

const sizeOf = { ext4: 64n * MiB, xfs: 320n * MiB, btrfs: 256n * MiB } as const;

async function filesystemBytes(path: string): Promise<bigint> {
  const { blocks, bsize } = await statfs(path, { bigint: true });
  return blocks * bsize;
}

for (const fsType of fsTypes) {
  onNode(
    `${fsType}: a volume that is not staged is grown by its next stage, also one with the option ro`,
    async (t) => {
      const node = await scratchNode(t);
      const sizeBytes = sizeOf[fsType];
      const input = volumeInput('unused', { fsType, sizeBytes });
      const { id: volumeId } = (await node.volumes.createVolume(call(), input)).record;
      const first = await mountVolume(node, volumeId);
      await writeFile(join(first.targetPath, 'file'), 'kept');
      await unmountVolume(node, volumeId, first);
      const grow = async (factor: bigint) =>
        node.volumes.expandVolume(call(), {
          volumeId,
          range: { requiredBytes: factor * sizeBytes, limitBytes: 0n },
        });

      t.is((await grow(2n)).remaining, 'next-stage');
      await node.restart();
      t.is((await grow(2n)).remaining, 'next-stage');
      const writable = await mountVolume(node, volumeId);
      t.true((await filesystemBytes(writable.targetPath)) > (sizeBytes * 16n) / 10n);
      await unmountVolume(node, volumeId, writable);

      t.is((await grow(4n)).remaining, 'next-stage');
      const readOnly = await mountVolume(node, volumeId, capability({ mountFlags: ['ro'] }));
      const bytes = await filesystemBytes(readOnly.targetPath);
      t.true(bytes > (sizeBytes * 32n) / 10n, `${bytes}`);

      t.is((await grow(6n)).remaining, 'node-expand');
      const volumePath = readOnly.stagingTargetPath;
      const range = { requiredBytes: 6n * sizeBytes, limitBytes: 0n };
      t.is(
        await reasonOf(node.volumes.nodeExpandVolume(call(), { volumeId, range, volumePath })),
        'wrong-state',
      );
      t.is(await filesystemBytes(readOnly.targetPath), bytes);
      await unmountVolume(node, volumeId, readOnly);
      await mountVolume(node, volumeId, capability({ mountFlags: ['ro'] }));
      // The kubelet still has to call it, since the answer to the expansion was `node-expand`.
      await node.volumes.nodeExpandVolume(call(), { volumeId, range, volumePath });
      t.true((await filesystemBytes(readOnly.targetPath)) > (sizeBytes * 48n) / 10n);
      await unmountVolume(node, volumeId, readOnly);
      await node.volumes.deleteVolume(call(), volumeId);
    },
  );
}

onNode(
  'a stage with the option ro fails while a container has a copy of the mount, leaves nothing mounted, and then grows the filesystem',
  async (t) => {
    const node = await scratchNode(t);
    const input = volumeInput('busy', { sizeBytes: sizeOf.ext4 });
    const { id: volumeId } = (await node.volumes.createVolume(call(), input)).record;
    const stagingTargetPath = node.pathOf('staging');
    await mkdir(stagingTargetPath);
    const at = { volumeId, stagingTargetPath };
    const stage = () =>
      node.volumes.stageVolume(call(), { ...at, capability: capability({ mountFlags: ['ro'] }) });
    await stage();
    const stopUse = await realOtherSoftware.mountElsewhere(stagingTargetPath);
    t.teardown(stopUse);
    t.is(await reasonOf(node.volumes.unstageVolume(call(), at)), 'busy');
    const range = { requiredBytes: 2n * sizeOf.ext4, limitBytes: 0n };
    await node.volumes.expandVolume(call(), { volumeId, range });

    t.is(await reasonOf(stage()), 'busy');
    t.deepEqual(await mountsBelow(node.directory), []);
    await stopUse();
    await stage();
    t.true((await filesystemBytes(stagingTargetPath)) > (sizeOf.ext4 * 16n) / 10n);
    await node.volumes.unstageVolume(call(), at);
    await node.volumes.deleteVolume(call(), volumeId);
  },
);
