import { GiB, KiB, MiB } from '../../../../src/units.ts';
import { onNode } from '../../../helpers/on-node.ts';
import { scratchNode } from '../../../helpers/scratch-node.ts';

for (const poolFs of ['ext4', 'xfs', 'btrfs'] as const) {
  onNode(
    `${poolFs}: an image that cannot grow because the disk is full is unchanged`,
    async (t) => {
      const node = await scratchNode(t, { poolFs, poolFsBytes: GiB });
      const { files } = node.host;
      const image = `${node.poolPath}/image`;
      await files.createImage(image, { sizeBytes: 16n * MiB, allocate: true });
      const before = await files.imageStatus(image);
      const { freeBytes } = await files.capacity(node.poolPath);
      const growth = files.growImage(image, { sizeBytes: 4n * GiB, allocate: true });
      t.like(await t.throwsAsync(growth), { errno: 'ENOSPC' });
      const { sizeBytes, allocatedBytes } = await files.imageStatus(image);
      t.is(sizeBytes, before.sizeBytes);
      // A block of the extent tree may remain.
      t.true(allocatedBytes - before.allocatedBytes <= 64n * KiB, `now ${allocatedBytes}`);
      const after = (await files.capacity(node.poolPath)).freeBytes;
      t.true(freeBytes - after < 64n * MiB, `${freeBytes} were free, now ${after}`);
    },
  );
}
