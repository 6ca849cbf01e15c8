import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { onNode } from '../../../helpers/on-node.ts';
import { onScratch } from '../../../helpers/root-scratch.ts';

const kinds = [
  { name: 'another filesystem', source: 'tmpfs', options: ['-t', 'tmpfs'] },
  { name: 'a directory of the same filesystem', source: 'elsewhere', options: ['--bind'] },
] as const;

for (const { name, source, options } of kinds) {
  for (const below of ['', 'deep/deeper']) {
    const where = below === '' ? 'itself' : 'below it';
    onNode(`a tree is not removed below a mount of ${name} on ${where}`, async (t) => {
      await onScratch(t, async ({ host: { files }, directory }) => {
        const tree = join(directory, 'tree');
        const target = join(tree, below);
        await mkdir(target, { recursive: true });
        await mkdir(join(directory, 'elsewhere'));
        const from = source === 'tmpfs' ? source : join(directory, source);
        await execa('mount', [...options, from, target]);
        try {
          await mkdir(join(target, 'data'));
          await writeFile(join(target, 'data', 'file'), 'kept');
          const error = await t.throwsAsync(files.removeTree(tree));
          t.like(error, { errno: 'EBUSY' });
          t.true(error?.message.includes(target), error?.message);
          t.is(await readFile(join(target, 'data', 'file'), 'utf8'), 'kept');
          t.true((await files.status(target)).isMountPoint);
        } finally {
          await execa('umount', [target]);
        }
        await files.removeTree(tree);
        t.deepEqual(await readdir(directory), ['elsewhere']);
      });
    });
  }
}

onNode('a file that is a mount point is neither removed nor truncated', async (t) => {
  await onScratch(t, async ({ host: { files }, directory }) => {
    const [image, other] = [join(directory, 'tree', 'disk.img'), join(directory, 'other')];
    await mkdir(join(directory, 'tree'));
    await writeFile(image, 'image');
    await writeFile(other, Buffer.alloc(65_536, 'x'));
    await execa('mount', ['--bind', other, image]);
    const { signal } = new AbortController();
    try {
      const removals = [
        files.removeTree(join(directory, 'tree')),
        files.removeInSlices(image, { sliceBytes: 4096n, signal }),
      ];
      for (const removal of removals) t.like(await t.throwsAsync(removal), { errno: 'EBUSY' });
      t.is((await readFile(other)).length, 65_536);
    } finally {
      await execa('umount', [image]);
    }
  });
});
