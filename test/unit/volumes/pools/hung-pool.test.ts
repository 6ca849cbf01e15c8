import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { gate, ownedBy } from '../../../../src/host/gate.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';
import { until } from '../../../helpers/until.ts';

test('blocks of one pool that are never freed keep no other pool from freeing its own', async (t) => {
  const node = await fakeNode(t);
  const { files } = node.host;
  const remove = files.removeInSlices.bind(files);
  let goOn = (): void => undefined;
  const hung = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  files.removeInSlices = async (path, options) => {
    if (path.startsWith(join(node.directory, 'hung'))) await hung;
    await remove(path, options);
  };
  const pools = ['hung', 'good'];
  const { volumes, domain } = await node.open(pools.map((name) => node.settings(name)));
  // Also when the test fails: the driver's end waits for what is being freed.
  t.teardown(() => {
    goOn();
  });
  for (const pool of pools) {
    const settings = { ...plainSettings, pool };
    const { record } = await volumes.createVolume(call(), volumeInput(pool, { settings }));
    await volumes.deleteVolume(call(), record.id);
  }
  const trashOf = (pool: string) => readdir(join(node.directory, pool, 'trash'));
  await until('the good one is free', async () => (await trashOf('good')).length === 0, 20_000);
  t.is((await trashOf('hung')).length, 1);
  goOn();
  await domain.trash.settled();
  t.deepEqual(await trashOf('hung'), []);
});

test('a question for the room of a pool that hangs keeps nobody from asking for the room of another', async (t) => {
  const node = await fakeNode(t);
  const { files } = node.host;
  const capacity = files.capacity.bind(files);
  let goOn = (): void => undefined;
  const hung = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  let isHanging = false;
  files.capacity = async (path) => {
    if (isHanging && path.startsWith(join(node.directory, 'hung'))) {
      await gate.run('statfs', () => hung);
    }
    return capacity(path);
  };
  const pools = ['hung', 'good'].map((name) => node.settings(name));
  const { volumes } = await node.open(pools, { ownedBy });
  t.teardown(() => {
    goOn();
  });
  isHanging = true;
  const roomOf = (pool: string) =>
    volumes.capacity(call(), { pool, kind: 'mount', fsType: 'ext4', provisioning: 'thin' });
  const waiting = roomOf('hung');
  t.true((await roomOf('good')).availableBytes > 0n);
  goOn();
  t.true((await waiting).availableBytes > 0n);
});
