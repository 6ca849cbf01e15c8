import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fsTypes } from '../../src/host/host.ts';
import { MiB } from '../../src/units.ts';
import type { FaultPoint } from '../../src/volumes/engine/fault-points.ts';
import { onNode } from '../helpers/on-node.ts';
import { reasonOf } from '../helpers/reason-of.ts';
import {
  call,
  mountVolume,
  plainSettings,
  scratchNode,
  testSettings,
  unmountVolume,
} from '../helpers/scratch-node.ts';
import {
  hashOf,
  imageOf,
  makeMounted,
  makeVolume,
  restore,
  smallBytes,
  snapshotInput,
  snapshotPoolFs,
  takeSnapshot,
  writeText,
} from '../helpers/snapshot-node.ts';

const stopAt = (point: FaultPoint) => (reached: FaultPoint) => {
  if (reached === point) throw new Error(`stopped at ${point}`);
};

for (const poolFs of snapshotPoolFs) {
  for (const fsType of fsTypes) {
    onNode(
      `${poolFs} pool, ${fsType}: a snapshot in use is restored and cloned, and all three are mounted side by side`,
      async (t) => {
        const node = await scratchNode(t, { poolFs });
        const { id, paths } = await makeMounted(node, 'source', fsType);
        // Not synced: the freeze must flush it into the snapshot.
        await writeText(join(paths.targetPath, 'file'), 'before');
        const settings = { freeze: true };
        const { record } = await takeSnapshot(node, 'snap', id, { settings });
        t.is(record.state, 'ready');
        t.is(record.sizeBytes, smallBytes[fsType]);
        t.true(record.frozenMs > 0, 'the duration of the freeze is reported');
        await writeText(join(paths.targetPath, 'file'), 'after');
        const source = { kind: 'snapshot', id: record.id } as const;
        const restored = await restore(node, 'restored', source);
        const larger = await restore(node, 'larger', source, {
          sizeBytes: 2n * smallBytes[fsType],
        });
        const { targetPath } = await mountVolume(node, restored);
        const { targetPath: largerPath } = await mountVolume(node, larger);
        t.is(await readFile(join(targetPath, 'file'), 'utf8'), 'before');
        t.is(await readFile(join(largerPath, 'file'), 'utf8'), 'before');
        t.is(await readFile(join(paths.targetPath, 'file'), 'utf8'), 'after');
        const stats = await node.volumes.volumeStats({
          volumeId: larger,
          volumePath: largerPath,
        });
        t.true(stats.totalBytes > (smallBytes[fsType] * 3n) / 2n, `grown to ${stats.totalBytes}`);
        await unmountVolume(node, id, paths);
        const cloned = await restore(node, 'cloned', { kind: 'volume', id });
        const clone = await mountVolume(node, cloned);
        await mountVolume(node, id);
        t.is(await readFile(join(clone.targetPath, 'file'), 'utf8'), 'after');
        for (const volumeId of [restored, larger, cloned, id]) {
          await unmountVolume(node, volumeId, {
            stagingTargetPath: node.pathOf(`staging-${volumeId}`),
            targetPath: node.pathOf(`target-${volumeId}`),
          });
        }
      },
    );
  }

  for (const fsType of fsTypes) {
    onNode(
      `${poolFs} pool, ${fsType}: a block copy of a filesystem in use has its bytes, and becomes a filesystem again beside it`,
      async (t) => {
        const node = await scratchNode(t, { poolFs });
        const { id, paths } = await makeMounted(node, 'source', fsType);
        await writeText(join(paths.targetPath, 'file'), 'kept');
        const { record } = await takeSnapshot(node, 'snap', id, { settings: { freeze: true } });
        const source = { kind: 'snapshot', id: record.id } as const;
        const sizeBytes = 2n * smallBytes[fsType];
        const asBlock = { kind: 'block', sizeBytes } as const;
        const block = await restore(node, 'block', source, asBlock);
        const bytes = Number(record.sizeBytes);
        const hash = await hashOf(imageOf(node, 'snapshots', record.id));
        t.is(await hashOf(imageOf(node, 'volumes', block), bytes), hash);
        const again = await restore(node, 'again', { kind: 'volume', id: block });

        await unmountVolume(node, block, await mountVolume(node, block, { kind: 'block' }));
        t.is(await hashOf(imageOf(node, 'volumes', block), bytes), hash);
        // Interrupted after the record was written: the next driver completes it.
        await node.restart({ reached: stopAt('stage:kind-recorded') });
        await t.throwsAsync(mountVolume(node, block, { fsType }));
        await node.restart();
        for (const volumeId of [again, block]) {
          const { targetPath } = await mountVolume(node, volumeId, { fsType });
          t.is(await readFile(join(targetPath, 'file'), 'utf8'), 'kept', volumeId);
          const { totalBytes } = await node.volumes.volumeStats({
            volumeId,
            volumePath: targetPath,
          });
          t.true(totalBytes > (smallBytes[fsType] * 3n) / 2n, `grown to ${totalBytes}`);
        }
        t.is(await readFile(join(paths.targetPath, 'file'), 'utf8'), 'kept');
        t.is(await restore(node, 'block', source, asBlock), block, 'repeated');
        await unmountVolume(node, block, {
          stagingTargetPath: node.pathOf(`staging-${block}`),
          targetPath: node.pathOf(`target-${block}`),
        });
        // In a private mount, while the original is mounted.
        await node.administration.trimVolume(call(), block);
        for (const volumeId of [again, id]) {
          await unmountVolume(node, volumeId, {
            stagingTargetPath: node.pathOf(`staging-${volumeId}`),
            targetPath: node.pathOf(`target-${volumeId}`),
          });
        }
      },
    );
  }

  onNode(
    `${poolFs} pool: a copy has its source's sectors unless others are asked for`,
    async (t) => {
      const node = await scratchNode(t, { poolFs });
      const small = { ...plainSettings, sectorSize: 512 } as const;
      const id = await makeVolume(node, 'small', { sizeBytes: smallBytes.ext4, settings: small });
      const source = { kind: 'volume', id } as const;
      const copy = await restore(node, 'copy', source);
      t.is(await restore(node, 'copy', source), copy, 'repeated');
      const sectors = node.domain.pools.getVolume(copy).record.sectorSize;
      t.is(sectors, 512);
      const large = { settings: { ...plainSettings, sectorSize: 4096 } } as const;
      t.is(await reasonOf(restore(node, 'other', source, large)), 'invalid');
      t.is(await reasonOf(restore(node, 'copy', source, large)), 'conflict');
      await unmountVolume(node, copy, await mountVolume(node, copy));
    },
  );

  onNode(
    `${poolFs} pool: repeated requests, changed requests, filters and deletes follow the CSI spec`,
    async (t) => {
      const node = await scratchNode(t, { poolFs });
      const a = await makeVolume(node, 'a', { sizeBytes: smallBytes.ext4 });
      const b = await makeVolume(node, 'b', { kind: 'block', sizeBytes: 16n * MiB });
      const first = await takeSnapshot(node, 'one', a);
      await new Promise((resolve) => setTimeout(resolve, 5));
      const again = await takeSnapshot(node, 'one', a);
      t.deepEqual(again, first, 'creation time and size are stored');
      t.is(await reasonOf(takeSnapshot(node, 'one', b)), 'conflict');
      t.is(await reasonOf(takeSnapshot(node, 'two', 'nobody.00000000')), 'not-found');
      const two = await takeSnapshot(node, 'two', b);
      const three = await takeSnapshot(node, 'three', a);

      const list = async (asked: object) => {
        const page = await node.volumes.listSnapshots({
          maxEntries: 0,
          startingToken: '',
          ...asked,
        });
        return page.entries.map(({ record }) => record.name);
      };
      t.deepEqual(await list({}), ['one', 'three', 'two']);
      t.deepEqual(await list({ sourceVolumeId: a }), ['one', 'three']);
      t.deepEqual(await list({ snapshotId: two.record.id }), ['two']);
      t.deepEqual(await list({ snapshotId: two.record.id, sourceVolumeId: a }), []);
      t.deepEqual(await list({ sourceVolumeId: 'nobody' }), []);
      t.deepEqual(await list({ snapshotId: '../../etc' }), []);

      const source = { kind: 'snapshot', id: two.record.id } as const;
      t.is(
        await reasonOf(restore(node, 'r', source)),
        'invalid',
        'no filesystem is made in the copy of a block volume without one',
      );
      t.is(
        await reasonOf(
          restore(node, 'r', { ...source, id: first.record.id }, { sizeBytes: 8n * MiB }),
        ),
        'out-of-range',
      );
      for (const kind of ['snapshot', 'volume'] as const) {
        const ofThisNode = `gone.${testSettings.nodeTag}`;
        t.is(await reasonOf(restore(node, 'r', { kind, id: ofThisNode })), 'not-found', kind);
        // It has the tag of another node, which may have it.
        t.is(await reasonOf(restore(node, 'r', { kind, id: 'gone.00000000' })), 'no-space', kind);
      }
      t.is(
        await reasonOf(
          restore(node, 'r', source, {
            kind: 'block',
            settings: { ...plainSettings, sectorSize: 512 },
          }),
        ),
        'invalid',
      );

      await node.volumes.deleteVolume(call(), a);
      const { record } = await node.volumes.getSnapshot(first.record.id);
      t.is<string, string>(record.sourceVolumeId, a);
      const restored = await restore(node, 'r', { kind: 'snapshot', id: three.record.id });
      for (const { record } of [first, two, three, three]) {
        await node.volumes.deleteSnapshot(call(), record.id);
      }
      t.is(await reasonOf(node.volumes.getSnapshot(first.record.id)), 'not-found');
      await node.volumes.deleteSnapshot(call(), 'unknown');
      const paths = await mountVolume(node, restored);
      await unmountVolume(node, restored, paths);
      await node.restart();
      t.deepEqual(await list({}), []);
    },
  );

  onNode(
    `${poolFs} pool: copies of thick and thin raw block volumes have the hash of their source`,
    async (t) => {
      const node = await scratchNode(t, { poolFs });
      const thick = { ...plainSettings, provisioning: 'thick', trim: 'off' } as const;
      const id = await makeVolume(node, 'raw', {
        kind: 'block',
        sizeBytes: 32n * MiB,
        settings: thick,
      });
      await writeText(imageOf(node, 'volumes', id), 'x'.repeat(1_000_000), true);
      // The write above truncated the image: this restores the size it was created with.
      await node.host.files.growImage(imageOf(node, 'volumes', id), {
        sizeBytes: 32n * MiB,
        allocate: true,
      });
      const { record } = await takeSnapshot(node, 'raw', id);
      const hash = await hashOf(imageOf(node, 'volumes', id));
      t.is(await hashOf(imageOf(node, 'snapshots', record.id)), hash);
      const source = { kind: 'snapshot', id: record.id } as const;
      const thin = await restore(node, 'thin', source, { kind: 'block' });
      t.is(await hashOf(imageOf(node, 'volumes', thin)), hash);
      const { allocatedBytes } = await node.host.files.imageStatus(imageOf(node, 'volumes', thin));
      t.true(
        allocatedBytes < 4n * MiB,
        `a thin restore allocates only its data, here ${allocatedBytes}`,
      );
      const full = await restore(node, 'full', source, {
        kind: 'block',
        settings: thick,
        sizeBytes: 48n * MiB,
      });
      const status = await node.host.files.imageStatus(imageOf(node, 'volumes', full));
      t.true(status.allocatedBytes >= 48n * MiB);
      t.is(status.sizeBytes, 48n * MiB);
    },
  );
}

onNode(
  'without reflink a filesystem in use is refused, and the error names the remedy',
  async (t) => {
    const node = await scratchNode(t, { poolFs: 'ext4' });
    const { id, paths } = await makeMounted(node, 'busy', 'ext4');
    const error = await t.throwsAsync(takeSnapshot(node, 'snap', id));
    t.like(error, { reason: 'wrong-state' });
    t.regex(error?.message ?? '', /freeze: 'yes'/);
    t.is(await reasonOf(restore(node, 'clone', { kind: 'volume', id })), 'wrong-state');
    await unmountVolume(node, id, paths);
    await takeSnapshot(node, 'snap', id);
  },
);

onNode(
  'an equal request joins the first; another one for the same source is refused while it is frozen',
  async (t) => {
    const node = await scratchNode(t, { poolFs: 'xfs' });
    const { id, paths } = await makeMounted(node, 'busy', 'xfs');
    const input = snapshotInput('snap', id);
    const [one, two] = await Promise.all([
      node.volumes.createSnapshot(call(), input),
      node.volumes.createSnapshot(call(), input),
    ]);
    t.deepEqual(one, two);
    await unmountVolume(node, id, paths);
  },
);
