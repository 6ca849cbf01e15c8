import { statfs } from 'node:fs/promises';
import { MiB } from '../../src/units.ts';
import { onNode } from '../helpers/on-node.ts';
import {
  call,
  mountVolume,
  scratchNode,
  unmountVolume,
  volumeInput,
} from '../helpers/scratch-node.ts';

onNode('a small btrfs grows to the minimum size that the kernel can grow it to', async (t) => {
  const node = await scratchNode(t);
  const input = volumeInput('small', { fsType: 'btrfs', sizeBytes: 128n * MiB });
  const { record } = await node.volumes.createVolume(call(), input);
  const paths = await mountVolume(node, record.id);
  const range = { requiredBytes: 192n * MiB, limitBytes: 0n };
  const { sizeBytes } = await node.volumes.expandVolume(call(), { volumeId: record.id, range });
  t.is(sizeBytes, 256n * MiB);
  const volumePath = paths.targetPath;
  await node.volumes.nodeExpandVolume(call(), { volumeId: record.id, range, volumePath });
  const { blocks, bsize } = await statfs(volumePath, { bigint: true });
  t.true(blocks * bsize > 200n * MiB, 'the filesystem has grown');
  await unmountVolume(node, record.id, paths);

  const limited = { requiredBytes: 150n * MiB, limitBytes: 200n * MiB };
  const other = await node.volumes.createVolume(call(), { ...input, name: 'other' });
  await t.throwsAsync(
    node.volumes.expandVolume(call(), { volumeId: other.record.id, range: limited }),
    { message: /at least 256 MiB/ },
  );

  const source = { kind: 'volume', id: other.record.id } as const;
  const clone = await node.volumes.createVolume(
    call(),
    volumeInput('clone', { fsType: 'btrfs', sizeBytes: 150n * MiB, source }),
  );
  t.is(clone.record.sizeBytes, 256n * MiB);
  for (const { id } of [record, other.record, clone.record]) {
    await node.volumes.deleteVolume(call(), id);
  }
});
