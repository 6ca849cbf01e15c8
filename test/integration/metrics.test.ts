import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { MiB } from '../../src/units.ts';
import { makeMeasure } from '../../src/volumes/admin/metrics/measure.ts';
import { onNode } from '../helpers/on-node.ts';
import {
  call,
  mountVolume,
  scratchNode,
  unmountVolume,
  volumeInput,
} from '../helpers/scratch-node.ts';
import { takeSnapshot } from '../helpers/snapshot-node.ts';
import { until } from '../helpers/until.ts';

onNode('a mounted volume reports its usage and the I/O since it was attached', async (t) => {
  const node = await scratchNode(t, { poolFs: 'xfs' });
  const measure = makeMeasure(node.domain, { timeoutMs: 5_000, healthPauseMs: 0 });
  const { record } = await node.volumes.createVolume(
    call(),
    volumeInput('a', { sizeBytes: 128n * MiB }),
  );
  const read = async () => (await measure()).pools[0]?.images[0];
  t.like(await read(), { volumeId: record.id, filesystem: undefined, io: undefined });

  const paths = await mountVolume(node, record.id);
  const before = await read();
  await writeFile(join(paths.targetPath, 'file'), Buffer.alloc(32 * 1024 * 1024, 7), {
    flush: true,
  });
  const after = await read();
  const grown = (after?.filesystem?.usedBytes ?? 0n) - (before?.filesystem?.usedBytes ?? 0n);
  t.true(grown >= 32n * MiB && grown < 40n * MiB, `${grown} more bytes are used`);
  t.is((after?.filesystem?.usedInodes ?? 0n) - (before?.filesystem?.usedInodes ?? 0n), 1n);
  const written = (after?.io?.writtenBytes ?? 0n) - (before?.io?.writtenBytes ?? 0n);
  t.true(written >= 32n * MiB && written < 64n * MiB, `${written} more bytes were written`);
  t.true((after?.io?.writeMs ?? 0) > (before?.io?.writeMs ?? 0));

  await unmountVolume(node, record.id, paths);
  t.like(await read(), { filesystem: undefined, io: undefined });
  // The device keeps its counters when the image is attached again, or another image gets its number.
  const again = await mountVolume(node, record.id);
  const io = (await read())?.io;
  t.true(io !== undefined && io.writtenBytes < 8n * MiB, 'only what the mount wrote');

  await takeSnapshot(node, 's', record.id);
  t.like((await read())?.snapshots, { count: 1 });
  t.true(Date.now() - ((await read())?.snapshots?.newestAtMs ?? 0) < 60_000);
  await unmountVolume(node, record.id, again);
});

onNode('leftover devices and unhealthy volumes are counted', async (t) => {
  const node = await scratchNode(t, { poolFs: 'xfs' });
  const measure = makeMeasure(node.domain, { timeoutMs: 5_000, healthPauseMs: 0 });
  const make = async (name: string) =>
    (await node.volumes.createVolume(call(), volumeInput(name, { sizeBytes: 128n * MiB }))).record;
  const [left, short] = [await make('left'), await make('short')];
  t.is((await measure()).leftoverDevices, 0);
  const device = await node.host.loops.attach(join(node.poolPath, 'volumes', left.id, 'disk.img'), {
    sectorSize: 4096,
    readOnly: false,
    directIo: true,
    discard: true,
    label: left.id,
  });
  t.is((await measure()).leftoverDevices, 1);
  await node.host.loops.detach(device);
  t.is((await measure()).leftoverDevices, 0);

  await execa('truncate', ['--size', '64M', join(node.poolPath, 'volumes', short.id, 'disk.img')]);
  await until('the survey has found it', async () => {
    const [pool] = (await measure()).pools;
    return pool?.unhealthy['ImageShort'] === 1;
  });
  const [pool] = (await measure()).pools;
  t.deepEqual(
    pool?.images.map(({ volumeId, conditions }) => [volumeId, conditions]),
    [
      [left.id, []],
      [short.id, ['ImageShort']],
    ],
  );
});
