import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';
import { until } from '../../../helpers/until.ts';

for (const name of ['files.removeInSlices', 'files.removeTree']) {
  test(`an entry whose removal failed once (${name}) is removed without a restart, and counts as trash until then`, async (t) => {
    const node = await fakeNode(t);
    const { volumes, domain } = await node.open([node.settings('a')]);
    const pool = domain.pools.named('a');
    const { record } = await volumes.createVolume(call(), volumeInput('v'));
    node.host.failNext(name, new KernelError('unlink', 'EIO', 'a test'));
    await volumes.deleteVolume(call(), record.id);
    await domain.trash.whenIdle();
    const trash = join(node.settings('a').path, 'trash');
    t.is((await readdir(trash)).length, 1);
    t.true((await pool.space.facts()).trashBytes > 0n);
    await until('it is removed', async () => (await readdir(trash)).length === 0, 20_000);
    await domain.trash.whenIdle();
    t.is((await pool.space.facts()).trashBytes, 0n);
  });
}

test('a deleted entry with a mount in it is left unchanged', async (t) => {
  const node = await fakeNode(t);
  const { volumes, domain } = await node.open([node.settings('a')]);
  const { record } = await volumes.createVolume(call(), volumeInput('v'));
  const { files } = node.host;
  const status = files.status.bind(files);
  Object.assign(files, {
    status: async (path: string) => ({ ...(await status(path)), isMountPoint: true }),
  });
  await volumes.deleteVolume(call(), record.id);
  await domain.trash.whenIdle();
  const trash = join(node.settings('a').path, 'trash');
  const [entry = ''] = await readdir(trash);
  t.deepEqual((await readdir(join(trash, entry))).toSorted(), ['disk.img', 'volume.json']);
});
