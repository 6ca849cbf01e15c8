import { execa } from 'execa';
import { MiB } from '../../src/units.ts';
import { onNode } from '../helpers/on-node.ts';
import {
  call,
  mountVolume,
  scratchNode,
  unmountVolume,
  volumeInput,
} from '../helpers/scratch-node.ts';
import { until } from '../helpers/until.ts';

onNode(
  'volumes of a pool whose filesystem has failed can be unpublished and unstaged',
  async (t) => {
    const node = await scratchNode(t, { poolFs: 'xfs', poolFsBytes: 512n * MiB });
    const input = volumeInput('v', { sizeBytes: 64n * MiB });
    const { record } = await node.volumes.createVolume(call(), input);
    const paths = await mountVolume(node, record.id);
    // The kernel does the same once it can no longer write the log.
    await execa('xfs_io', ['-x', '-c', 'shutdown', node.poolPath]);
    const [condition] = await node.volumes.volumeHealth(record.id);
    t.is(condition?.status, 'INACCESSIBLE');
    await until('the pool is unavailable', () => !node.domain.pools.all[0]?.isServed);
    await unmountVolume(node, record.id, paths);
    await unmountVolume(node, record.id, paths);
    const left: string[] = [];
    for (const device of await node.host.loops.list()) {
      const path = await node.host.loops.backingPath(device);
      // Another driver on the machine may have a volume with that name.
      if (path?.startsWith(`${node.poolPath}/`) === true) left.push(device.path);
    }
    t.deepEqual(left, []);
  },
);
