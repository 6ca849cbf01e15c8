import { mkdir, mkdtemp, open, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { onNode } from '../helpers/on-node.ts';
import { removeAll } from '../helpers/scratch-pool.ts';

onNode('a test’s cleanup removes no file that is still mounted and in use', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-removed-'));
  const below = join(directory, 'pool');
  const path = join(below, 'kept');
  await mkdir(below);
  await execa('mount', ['-t', 'tmpfs', 'tmpfs', below]);
  await writeFile(path, 'kept');
  const user = await open(path, 'r');
  try {
    t.deepEqual(await removeAll(directory), [`${below}, still mounted`]);
    t.is(await readFile(path, 'utf8'), 'kept');
  } finally {
    await user.close();
    t.deepEqual(await removeAll(directory), []);
  }
});
