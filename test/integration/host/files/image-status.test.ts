import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { openFlags, withCachedPath } from '../../../../src/host/kernel/descriptor.ts';
import { mountIdIn, statCached } from '../../../../src/host/kernel/statx.ts';
import { onNode } from '../../../helpers/on-node.ts';
import { onScratch } from '../../../helpers/root-scratch.ts';

onNode('the key of a mount is not reused with its device number', async (t) => {
  await onScratch(t, async ({ host: { files }, directory }) => {
    const target = join(directory, 'mount');
    const path = join(target, 'image');
    await mkdir(target);
    const seen: { readonly device: bigint; readonly id: bigint | undefined }[] = [];
    for (let round = 0; round < 3; round += 1) {
      await execa('mount', ['-t', 'tmpfs', 'tmpfs', target]);
      try {
        await writeFile(path, 'x'.repeat(round + 1));
        const { device, sizeBytes } = await files.imageStatus(path);
        t.is(sizeBytes, BigInt(round + 1));
        t.is((await files.imageStatus(path)).sizeBytes, BigInt(round + 1));
        const id = withCachedPath(path, openFlags.pathFollowed, (fd) =>
          mountIdIn(statCached(fd, path)),
        );
        seen.push({ device, id });
      } finally {
        await execa('umount', [target]);
      }
    }
    t.log(seen.map(({ device }) => device).join(', '));
    const ids = seen.flatMap(({ id }) => (id === undefined ? [] : [id]));
    t.is(new Set(ids).size, ids.length, 'every mount has its own key');
  });
});
