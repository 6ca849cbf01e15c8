import { appendFile, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { VolumeError } from '../../src/errors.ts';
import { hasErrno } from '../../src/host/errors.ts';
import { MiB } from '../../src/units.ts';
import { onNode } from '../helpers/on-node.ts';
import { reasonOf } from '../helpers/reason-of.ts';
import {
  call,
  mountVolume,
  type ScratchNode,
  scratchNode,
  unmountVolume,
  volumeInput,
} from '../helpers/scratch-node.ts';
import { devicesBelow, mountsBelow } from '../helpers/scratch-pool.ts';
import { makeVolume, snapshotInput } from '../helpers/snapshot-node.ts';

const sizeBytes = 64n * MiB;

/** Fills the pool's filesystem to the last block, as other software on its disk may. */
async function fillDisk(node: ScratchNode): Promise<string> {
  const ballast = join(node.poolPath, 'ballast');
  const { freeBytes } = await node.host.files.capacity(node.poolPath);
  await execa('fallocate', ['--length', String(freeBytes - 64n * MiB), ballast]);
  const file = await open(ballast, 'a');
  try {
    for (const bytes of [1 << 20, 4096, 1]) {
      for (;;) {
        try {
          await file.write(Buffer.alloc(bytes, 1));
          await file.datasync();
        } catch (error) {
          if (!hasErrno(error, 'ENOSPC')) throw error;
          break;
        }
      }
    }
  } finally {
    await file.close().catch(() => undefined);
  }
  return ballast;
}

async function isFull(t: ExecutionContext, node: ScratchNode): Promise<void> {
  const probe = join(node.poolPath, 'probe');
  await t.throwsAsync(writeFile(probe, Buffer.alloc(64 * 1024, 1), { flush: true }), {
    code: 'ENOSPC',
  });
  await rm(probe, { force: true });
}

for (const poolFs of ['ext4', 'xfs'] as const) {
  onNode(
    `${poolFs}: on a full disk pods can start and end and volumes can be deleted, and nothing new is created`,
    async (t) => {
      const node = await scratchNode(t, { poolFs, poolFsBytes: 1024n * MiB });
      const used = await makeVolume(node, 'used', { sizeBytes });
      const idle = await makeVolume(node, 'idle', { sizeBytes });
      const fresh = await makeVolume(node, 'fresh', { sizeBytes });
      const paths = await mountVolume(node, used);
      await appendFile(join(paths.targetPath, 'file'), 'kept');
      // Mounted once, so that its node state exists.
      await unmountVolume(node, idle, await mountVolume(node, idle));
      await execa('sync', ['--file-system', paths.targetPath]);
      const ballast = await fillDisk(node);
      await isFull(t, node);

      const { volumes } = node;
      const range = { requiredBytes: 4n * sizeBytes, limitBytes: 0n };
      t.is(await reasonOf(volumes.createVolume(call(), volumeInput('more'))), 'no-space');
      t.is(await reasonOf(volumes.createSnapshot(call(), snapshotInput('s', idle))), 'no-space');
      t.is(await reasonOf(volumes.expandVolume(call(), { volumeId: idle, range })), 'no-space');
      t.is((await volumes.listVolumes({ maxEntries: 0, startingToken: '' })).entries.length, 3);
      const conditions = await volumes.volumeHealth(used);
      t.true(conditions.some(({ reason }) => reason === 'PoolNearlyFull'));

      // Volumes with a node state, and one without.
      for (const id of [idle, fresh]) await unmountVolume(node, id, await mountVolume(node, id));
      await unmountVolume(node, used, paths);
      t.deepEqual((await mountsBelow(node.directory)).length, 1, "the pool's filesystem alone");

      await node.restart();
      t.true(node.domain.pools.all[0]?.isServed, node.domain.pools.all[0]?.problem);
      const again = await mountVolume(node, used);
      t.is(await readFile(join(again.targetPath, 'file'), 'utf8'), 'kept');
      await unmountVolume(node, used, again);
      for (const id of [idle, fresh]) await node.volumes.deleteVolume(call(), id);
      await rm(ballast);
      await node.restart();
      await node.volumes.createSnapshot(call(), snapshotInput('s', used));
      t.deepEqual((await devicesBelow(node.directory)).length, 1);
    },
  );
}

onNode(
  'a pool without free inodes creates nothing new, reports that, and serves its volumes',
  async (t) => {
    const node = await scratchNode(t, {
      poolFs: 'ext4',
      poolFsBytes: 256n * MiB,
      poolFsOptions: ['-N', '256'],
    });
    const id = await makeVolume(node, 'v', { sizeBytes });
    const { volumes } = node;
    const ballast = join(node.poolPath, 'ballast');
    await execa('mkdir', [ballast]);
    const files = async (from: number, to: number): Promise<void> => {
      for (let at = from; at < to; at += 1) await writeFile(join(ballast, String(at)), '');
    };
    const { freeInodes } = await node.host.files.capacity(node.poolPath);
    await files(0, Number(freeInodes) - 40);
    const error = await t.throwsAsync(
      volumes.createVolume(call(), volumeInput('w', { sizeBytes })),
    );
    t.regex(error?.message ?? '', /inodes/);
    const conditions = await volumes.volumeHealth(id);
    t.true(
      conditions.some(({ reason }) => reason === 'PoolInodesLow'),
      JSON.stringify(conditions),
    );
    await files(1_000, 1_040).catch(() => undefined);
    t.is((await node.host.files.capacity(node.poolPath)).freeInodes, 0n);
    await unmountVolume(node, id, await mountVolume(node, id));
    await node.restart();
    t.true(node.domain.pools.all[0]?.isServed, node.domain.pools.all[0]?.problem);
    await unmountVolume(node, id, await mountVolume(node, id));
    await rm(ballast, { recursive: true });
    await makeVolume(node, 'w', { sizeBytes });
  },
);

onNode(
  'ext4 with its error flag on a full disk: it is unchanged while there is no space for the check, and checked once there is',
  async (t) => {
    const node = await scratchNode(t, { poolFs: 'ext4', poolFsBytes: 1024n * MiB });
    const id = await makeVolume(node, 'flagged', { sizeBytes });
    const paths = await mountVolume(node, id);
    await appendFile(join(paths.targetPath, 'file'), 'kept');
    await unmountVolume(node, id, paths);
    const directory = join(node.poolPath, 'volumes', id);
    await execa('debugfs', ['-w', '-R', 'set_super_value state 2', join(directory, 'disk.img')]);
    const before = await readdir(directory);
    const ballast = await fillDisk(node);
    await isFull(t, node);
    const error = await t.throwsAsync(mountVolume(node, id), { instanceOf: VolumeError });
    t.is(error?.reason, 'no-space', error?.message);
    t.regex(error?.message ?? '', /is full; free some space/);
    t.deepEqual(await readdir(directory), before);
    await rm(ballast);
    const again = await mountVolume(node, id);
    t.is(await readFile(join(again.targetPath, 'file'), 'utf8'), 'kept');
    await unmountVolume(node, id, again);
    await node.volumes.deleteVolume(call(), id);
  },
);
