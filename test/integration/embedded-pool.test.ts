import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { noLimits } from '../../src/host/loop/io-limits.ts';
import { GiB, MiB } from '../../src/units.ts';
import { growPool } from '../../src/volumes/admin/pools/grow.ts';
import { onNode } from '../helpers/on-node.ts';
import { reasonOf } from '../helpers/reason-of.ts';
import {
  call,
  mountVolume,
  type ScratchNode,
  scratchNode,
  unmountVolume,
} from '../helpers/scratch-node.ts';
import { devicesBelow, mountsBelow } from '../helpers/scratch-pool.ts';
import { makeMounted, restore, takeSnapshot, writeText } from '../helpers/snapshot-node.ts';

function poolOf(node: ScratchNode) {
  const [pool] = node.domain.pools.all;
  if (pool === undefined) throw new Error('no pool');
  return pool;
}

onNode('an embedded pool shares blocks on ext4, survives a restart and grows in use', async (t) => {
  const node = await scratchNode(t, { poolFs: 'ext4', pool: { reflinkBytes: GiB } });
  const pool = poolOf(node);
  t.is(pool.problem, undefined);
  t.like(pool.abilities, { reflink: true, filesystem: 'xfs' });
  const image = join(node.poolPath, 'reflink.img');
  t.true(
    (await node.host.files.imageStatus(image)).allocatedBytes >= GiB,
    'the whole image is allocated',
  );

  const { id, paths } = await makeMounted(node, 'source', 'ext4');
  await writeText(join(paths.targetPath, 'file'), 'before');
  const { record } = await takeSnapshot(node, 'snap', id);
  t.true(record.frozenMs > 0);
  const restored = await restore(node, 'restored', { kind: 'snapshot', id: record.id });
  const other = await mountVolume(node, restored);
  t.is(await readFile(join(other.targetPath, 'file'), 'utf8'), 'before');

  const before = await devicesBelow(node.directory);
  await node.restart();
  t.deepEqual(await devicesBelow(node.directory), before, 'nothing is attached twice');
  t.is(poolOf(node).problem, undefined);

  const total = (await poolOf(node).space.facts()).totalBytes;
  t.is(await reasonOf(growPool(node.domain, poolOf(node), 512n * MiB)), 'out-of-range');
  t.is(await reasonOf(growPool(node.domain, poolOf(node), 100n * GiB)), 'no-space');
  await growPool(node.domain, poolOf(node), 2n * GiB);
  await growPool(node.domain, poolOf(node), 2n * GiB);
  t.true((await poolOf(node).space.facts()).totalBytes > total + 900n * MiB);

  await unmountVolume(node, id, paths);
  await unmountVolume(node, restored, other);
});

onNode(
  'an embedded pool is mounted again after a reboot, whether or not its size is configured',
  async (t) => {
    const node = await scratchNode(t, { poolFs: 'ext4', pool: { reflinkBytes: 512n * MiB } });
    const [first] = [...(await mountsBelow(node.poolPath))];
    t.is(first, join(node.poolPath, 'reflink'));
    const { record } = await node.volumes.createVolume(call(), {
      ...{ name: 'v', kind: 'block', fsType: null, parameters: {}, source: null },
      range: { requiredBytes: 16n * MiB, limitBytes: 0n },
      settings: {
        ...{ pool: undefined, provisioning: 'thin', mkfsOptions: [], sectorSize: 4096 },
        ...{ trim: 'periodic', directIo: true, limits: noLimits },
      },
    });
    const { host, poolPath } = node;
    await node.restart({
      whileClosed: async () => {
        await host.mounts.unmount(join(poolPath, 'reflink'));
        for (const device of await host.loops.findByImage(
          await host.files.imageStatus(join(poolPath, 'reflink.img')),
        )) {
          await host.loops.detach(device);
        }
      },
      pool: { reflinkBytes: undefined, create: false },
    });
    t.is((await node.volumes.getVolume(record.id)).record.name, 'v');
    t.is(await reasonOf(growPool(node.domain, poolOf(node), 512n * MiB)), 'ok');
  },
);

onNode('no image is created in a directory with other content', async (t) => {
  const node = await scratchNode(t, {});
  const plain = poolOf(node);
  t.is(plain.problem, undefined);
  t.is(await reasonOf(growPool(node.domain, plain, GiB)), 'wrong-state');
  await node.restart({ pool: { reflinkBytes: 512n * MiB } });
  t.regex(poolOf(node).problem ?? '', /has no reflink\.img/);
});
