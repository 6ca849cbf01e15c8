import { createHash, randomBytes } from 'node:crypto';
import { open, readdir, readFile, stat, statfs, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { VolumeError } from '../../src/errors.ts';
import { fsTypes } from '../../src/host/host.ts';
import { GiB, MiB } from '../../src/units.ts';
import { onNode } from '../helpers/on-node.ts';
import { reasonOf } from '../helpers/reason-of.ts';
import {
  call,
  capability,
  mountVolume,
  plainSettings,
  type ScratchNode,
  scratchNode,
  unmountVolume,
  volumeInput,
} from '../helpers/scratch-node.ts';

const sizeOf = { ext4: 64n * MiB, xfs: 320n * MiB, btrfs: 256n * MiB } as const;

async function makeMounted(node: ScratchNode, name: string, fsType: (typeof fsTypes)[number]) {
  const input = volumeInput(name, { fsType, sizeBytes: sizeOf[fsType] });
  const { record } = await node.volumes.createVolume(call(), input);
  return { id: record.id, paths: await mountVolume(node, record.id) };
}

async function writeBytes(path: string, bytes: Buffer): Promise<string> {
  const file = await open(path, 'w');
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  return createHash('sha256').update(bytes).digest('hex');
}

const hashOf = async (path: string): Promise<string> =>
  createHash('sha256')
    .update(await readFile(path))
    .digest('hex');

for (const fsType of fsTypes) {
  onNode(`${fsType}: written data survives unstage and stage, restart and expansion`, async (t) => {
    const node = await scratchNode(t);
    const { id, paths } = await makeMounted(node, 'bytes', fsType);
    const file = join(paths.targetPath, 'file');
    const hash = await writeBytes(file, randomBytes(5_000_000));

    await unmountVolume(node, id, paths);
    await t.throwsAsync(stat(paths.targetPath), { code: 'ENOENT' });
    await mountVolume(node, id);
    t.is(await hashOf(file), hash);

    await node.restart();
    t.is(await hashOf(file), hash, 'still mounted after the restart');
    await unmountVolume(node, id, paths);

    const grown = 2n * sizeOf[fsType];
    const range = { requiredBytes: grown, limitBytes: 0n };
    const { sizeBytes } = await node.volumes.expandVolume(call(), { volumeId: id, range });
    t.is(sizeBytes, grown);
    await mountVolume(node, id);
    const { blocks, bsize } = await statfs(paths.targetPath, { bigint: true });
    t.true(blocks * bsize > (grown * 8n) / 10n, 'the filesystem has grown');
    t.is(await hashOf(file), hash);
    await unmountVolume(node, id, paths);
    await node.volumes.deleteVolume(call(), id);
  });
}

for (const fsType of ['xfs', 'btrfs'] as const) {
  onNode(`${fsType}: a volume grows while a writer has a file open`, async (t) => {
    const node = await scratchNode(t);
    const { id, paths } = await makeMounted(node, 'online', fsType);
    const file = await open(join(paths.targetPath, 'held'), 'w');
    try {
      await file.write('before');
      const requiredBytes = 3n * sizeOf[fsType];
      const range = { requiredBytes, limitBytes: 0n };
      const asked = await node.volumes.expandVolume(call(), { volumeId: id, range });
      t.is(asked.remaining, 'node-expand');
      const volumePath = paths.targetPath;
      await node.volumes.nodeExpandVolume(call(), { volumeId: id, range, volumePath });
      await file.write(' and after');
      await file.sync();
      const { blocks, bsize } = await statfs(volumePath, { bigint: true });
      t.true(blocks * bsize > 2n * sizeOf[fsType]);
      const again = await node.volumes.expandVolume(call(), { volumeId: id, range });
      t.is(again.sizeBytes, requiredBytes);
      // XFS keeps its new size in the log for a while, so the superblock still has the old size; the node's call is idempotent.
      if (fsType === 'btrfs') t.is(again.remaining, 'none');
    } finally {
      await file.close();
    }
    t.is(await readFile(join(paths.targetPath, 'held'), 'utf8'), 'before and after');
    await unmountVolume(node, id, paths);
    await node.volumes.deleteVolume(call(), id);
  });
}

onNode(
  'ext4: growing in use needs CAP_SYS_RESOURCE; without it the device grows, and the filesystem at the next stage',
  async (t) => {
    const node = await scratchNode(t);
    const { id, paths } = await makeMounted(node, 'held', 'ext4');
    const range = { requiredBytes: 256n * MiB, limitBytes: 0n };
    const input = { volumeId: id, range, volumePath: paths.targetPath };
    const outcome = await reasonOf(node.volumes.nodeExpandVolume(call(), input));
    t.is(outcome, node.host.facts.canGrowExt4Online ? 'ok' : 'wrong-state');
    await unmountVolume(node, id, paths);
    await mountVolume(node, id);
    const { blocks, bsize } = await statfs(paths.targetPath, { bigint: true });
    t.true(blocks * bsize > 200n * MiB);
    await unmountVolume(node, id, paths);
    await node.volumes.deleteVolume(call(), id);
  },
);

onNode(
  'ext4: a volume that is staged but not published grows at once, with or without CAP_SYS_RESOURCE',
  async (t) => {
    const node = await scratchNode(t);
    const { id, paths } = await makeMounted(node, 'staged', 'ext4');
    await writeFile(join(paths.targetPath, 'f'), 'kept');
    await node.volumes.unpublishVolume(call(), { volumeId: id, targetPath: paths.targetPath });
    const range = { requiredBytes: 256n * MiB, limitBytes: 0n };
    const volumePath = paths.stagingTargetPath;
    await node.volumes.nodeExpandVolume(call(), { volumeId: id, range, volumePath });
    const { blocks, bsize } = await statfs(volumePath, { bigint: true });
    t.true(blocks * bsize > 200n * MiB);
    t.is(await readFile(join(volumePath, 'f'), 'utf8'), 'kept');
    await unmountVolume(node, id, paths);
    await node.volumes.deleteVolume(call(), id);
  },
);

onNode(
  'a full filesystem gets ENOSPC at its size, and the host keeps its free space',
  async (t) => {
    const node = await scratchNode(t);
    const { id, paths } = await makeMounted(node, 'full', 'ext4');
    const chunk = randomBytes(8 * 1024 * 1024);
    const fill = async (): Promise<void> => {
      for (let i = 0; i < 16; i += 1) await writeBytes(join(paths.targetPath, `f${i}`), chunk);
    };
    await t.throwsAsync(fill(), { code: 'ENOSPC' });
    // The free space of the pool's filesystem also changes with other writers of the machine.
    const image = await stat(join(node.poolPath, 'volumes', id, 'disk.img'), { bigint: true });
    // One MiB is for the extent tree of the image, which st_blocks includes.
    t.true(image.blocks * 512n <= 65n * MiB, `${image.blocks * 512n} bytes allocated`);
    await unmountVolume(node, id, paths);
    await node.volumes.deleteVolume(call(), id);
  },
);

onNode(
  'raw block: data survives a restart, growth is visible at once, and a read-only target refuses writes',
  async (t) => {
    const node = await scratchNode(t);
    const block = { kind: 'block', accessMode: 'SINGLE_NODE_MULTI_WRITER' } as const;
    const input = volumeInput('raw', { kind: 'block', sizeBytes: 32n * MiB });
    const { record } = await node.volumes.createVolume(call(), input);
    const paths = await mountVolume(node, record.id, block);
    t.true((await stat(paths.targetPath)).isBlockDevice());
    const bytes = randomBytes(1024 * 1024);
    const device = await open(paths.targetPath, 'r+');
    await device.write(bytes, 0, bytes.length, 4096);
    await device.sync();
    await device.close();

    const readOnly = await mountVolume(node, record.id, { ...block, target: 'ro', readOnly: true });
    const reader = await open(readOnly.targetPath, 'r+');
    await t.throwsAsync(
      (async () => {
        await reader.write(bytes, 0, 4096, 0);
        await reader.sync();
      })(),
      { code: 'EPERM' },
    );
    await reader.close();
    await node.volumes.unpublishVolume(call(), {
      volumeId: record.id,
      targetPath: readOnly.targetPath,
    });
    t.is(
      (
        await node.host.loops.findByImage(
          await node.host.files.imageStatus(imageOf(node, record.id)),
        )
      ).length,
      1,
    );

    await node.restart();
    const range = { requiredBytes: 64n * MiB, limitBytes: 0n };
    await node.volumes.expandVolume(call(), { volumeId: record.id, range });
    await node.volumes.nodeExpandVolume(call(), {
      volumeId: record.id,
      range,
      volumePath: paths.targetPath,
    });
    const stats = await node.volumes.volumeStats({
      volumeId: record.id,
      volumePath: paths.targetPath,
    });
    t.is(stats.totalBytes, 64n * MiB);
    await unmountVolume(node, record.id, paths);
    await mountVolume(node, record.id, block);
    const again = await open(paths.targetPath, 'r');
    const back = Buffer.alloc(bytes.length);
    await again.read(back, 0, back.length, 4096);
    await again.close();
    t.true(back.equals(bytes));
    await unmountVolume(node, record.id, paths);
    await node.volumes.deleteVolume(call(), record.id);
  },
);

const imageOf = (node: ScratchNode, id: string): string =>
  join(node.poolPath, 'volumes', id, 'disk.img');

for (const poolFs of fsTypes) {
  // XFS reserves space for a whole range, even if it is allocated: the allocation after mkfs failed.
  onNode(
    `${poolFs} pool: thick volumes of more than half of the capacity are created and grown`,
    async (t) => {
      const node = await scratchNode(t, { poolFs, poolFsBytes: 2n * GiB });
      const settings = { ...plainSettings, provisioning: 'thick' } as const;
      const input = volumeInput('thick', { sizeBytes: 1200n * MiB, settings });
      const { record } = await node.volumes.createVolume(call(), input);
      const range = { requiredBytes: 1400n * MiB, limitBytes: 0n };
      await node.volumes.expandVolume(call(), { volumeId: record.id, range });
      const { blocks } = await stat(join(node.poolPath, 'volumes', record.id, 'disk.img'));
      t.true(blocks * 512 >= 1400 * Number(MiB));
      await node.volumes.deleteVolume(call(), record.id);
    },
  );
}

for (const fsType of fsTypes) {
  onNode(
    `${fsType}: a thick volume is allocated after mkfs, after a mount and after fstrim`,
    async (t) => {
      const node = await scratchNode(t);
      const sizeBytes = sizeOf[fsType];
      const settings = { ...plainSettings, provisioning: 'thick', trim: 'off' } as const;
      const input = volumeInput('thick', { fsType, sizeBytes, settings });
      const { record } = await node.volumes.createVolume(call(), input);
      const allocated = async (): Promise<bigint> =>
        (await node.host.files.imageStatus(imageOf(node, record.id))).allocatedBytes;
      t.true((await allocated()) >= sizeBytes, 'after mkfs');
      const paths = await mountVolume(node, record.id);
      await writeBytes(join(paths.targetPath, 'f'), randomBytes(4_000_000));
      t.true((await allocated()) >= sizeBytes, 'after a mount');
      const [device] = await node.host.loops.findByImage(
        await node.host.files.imageStatus(imageOf(node, record.id)),
      );
      if (device === undefined) return t.fail('not attached');
      await t.throwsAsync(
        node.host.mounts.trim(paths.stagingTargetPath, device, { offset: 0n, length: 1n << 40n }),
      );
      t.true((await allocated()) >= sizeBytes, 'after fstrim');
      await unmountVolume(node, record.id, paths);
      await node.volumes.deleteVolume(call(), record.id);
    },
  );
}

onNode('a fresh 1 GiB ext4 volume occupies under 1 MiB', async (t) => {
  const node = await scratchNode(t);
  const { record } = await node.volumes.createVolume(
    call(),
    volumeInput('thin', { sizeBytes: GiB }),
  );
  const { allocatedBytes } = await node.host.files.imageStatus(imageOf(node, record.id));
  t.true(allocatedBytes < MiB, `${allocatedBytes}`);
  await node.volumes.deleteVolume(call(), record.id);
});

onNode(
  'an image that was truncated, or has no superblock, is refused and not changed',
  async (t) => {
    const node = await scratchNode(t);
    for (const damage of ['truncated', 'wiped'] as const) {
      const { record } = await node.volumes.createVolume(
        call(),
        volumeInput(damage, { sizeBytes: 64n * MiB }),
      );
      const image = imageOf(node, record.id);
      if (damage === 'truncated') await truncate(image, 32 * 1024 * 1024);
      else {
        const file = await open(image, 'r+');
        await file.write(Buffer.alloc(4096), 0, 4096, 0);
        await file.close();
      }
      const before = await hashOf(image);
      const stagingTargetPath = node.pathOf('staging');
      const stage = node.volumes.stageVolume(call(), {
        volumeId: record.id,
        stagingTargetPath,
        capability: capability(),
      });
      const error = await t.throwsAsync(stage, { instanceOf: VolumeError });
      t.is(error?.reason, 'wrong-state');
      t.regex(error?.message ?? '', damage === 'truncated' ? /was truncated to 32 MiB/ : /damaged/);
      t.is(await hashOf(image), before);
      await node.volumes.deleteVolume(call(), record.id);
    }
  },
);

onNode('a second publish follows the table of access modes of the CSI spec', async (t) => {
  const node = await scratchNode(t);
  for (const [accessMode, other] of [
    ['SINGLE_NODE_SINGLE_WRITER', 'wrong-state'],
    ['SINGLE_NODE_WRITER', 'wrong-state'],
    ['SINGLE_NODE_MULTI_WRITER', 'ok'],
  ] as const) {
    const { record } = await node.volumes.createVolume(
      call(),
      volumeInput(accessMode.toLowerCase(), { sizeBytes: 16n * MiB }),
    );
    const paths = await mountVolume(node, record.id, { accessMode });
    const publish = (targetPath: string, rest: { readOnly?: boolean; flags?: string[] } = {}) =>
      reasonOf(
        node.volumes.publishVolume(call(), {
          volumeId: record.id,
          stagingTargetPath: paths.stagingTargetPath,
          targetPath,
          capability: capability({ accessMode, mountFlags: rest.flags ?? [] }),
          readOnly: rest.readOnly ?? false,
        }),
      );
    t.is(await publish(paths.targetPath), 'ok', `${accessMode}: same target, same arguments`);
    t.is(
      await publish(paths.targetPath, { readOnly: true }),
      'conflict',
      `${accessMode}: read-only`,
    );
    t.is(
      await publish(paths.targetPath, { flags: ['noatime'] }),
      'conflict',
      `${accessMode}: flags`,
    );
    const second = node.pathOf('second');
    t.is(await publish(second), other, `${accessMode}: another target`);
    await node.volumes.unpublishVolume(call(), { volumeId: record.id, targetPath: second });
    await unmountVolume(node, record.id, paths);
    await node.volumes.deleteVolume(call(), record.id);
  }
});

onNode(
  'a volume in use is not deleted, and a deleted volume leaves nothing in pool and kernel',
  async (t) => {
    const node = await scratchNode(t);
    const { id, paths } = await makeMounted(node, 'used', 'ext4');
    t.is(await reasonOf(node.volumes.deleteVolume(call(), id)), 'wrong-state');
    await unmountVolume(node, id, paths);
    await node.volumes.deleteVolume(call(), id);
    await node.volumes.deleteVolume(call(), id);
    await node.domain.trash.whenIdle();
    for (const area of ['volumes', 'tmp', 'trash']) {
      t.deepEqual(await readdir(join(node.poolPath, area)), [], area);
    }
  },
);

onNode('sixteen concurrent life cycles leave nothing', async (t) => {
  const node = await scratchNode(t);
  await Promise.all(
    Array.from({ length: 16 }, async (_, i) => {
      const { id, paths } = await makeMounted(node, `many-${i}`, 'ext4');
      await writeBytes(join(paths.targetPath, 'f'), randomBytes(4096));
      await unmountVolume(node, id, paths);
      await node.volumes.deleteVolume(call(), id);
    }),
  );
  await node.domain.trash.whenIdle();
  t.deepEqual(await readdir(join(node.poolPath, 'volumes')), []);
});

onNode(
  'btrfs: a small volume grows to the 256 MiB that the kernel requires, with or without a source',
  async (t) => {
    const node = await scratchNode(t);
    const { record } = await node.volumes.createVolume(
      call(),
      volumeInput('small', { fsType: 'btrfs', sizeBytes: 109n * MiB }),
    );
    const paths = await mountVolume(node, record.id);
    const range = { requiredBytes: 120n * MiB, limitBytes: 0n };
    const asked = { volumeId: record.id, range, volumePath: paths.targetPath };
    const { sizeBytes } = await node.volumes.nodeExpandVolume(call(), asked);
    t.is(sizeBytes, 256n * MiB);
    const { blocks, bsize } = await statfs(paths.targetPath, { bigint: true });
    t.true(blocks * bsize > 200n * MiB);
    const limited = { ...asked, range: { requiredBytes: 300n * MiB, limitBytes: 299n * MiB } };
    t.is(await reasonOf(node.volumes.nodeExpandVolume(call(), limited)), 'out-of-range');
    await unmountVolume(node, record.id, paths);
    await node.volumes.deleteVolume(call(), record.id);
  },
);
