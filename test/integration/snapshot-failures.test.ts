import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { FaultPoint } from '../../src/volumes/engine/fault-points.ts';
import { onNode } from '../helpers/on-node.ts';
import { reasonOf } from '../helpers/reason-of.ts';
import { call, type ScratchNode, scratchNode, unmountVolume } from '../helpers/scratch-node.ts';
import { makeMounted, restore, takeSnapshot, writeText } from '../helpers/snapshot-node.ts';

/** A fault point that fails once, without ending the driver. */
class OneFailure {
  /** '' when nothing is to fail. */
  #point: FaultPoint | '' = '';

  readonly reached = (point: FaultPoint): void => {
    if (point !== this.#point) return;
    this.#point = '';
    throw new Error(`failed at ${point}`);
  };

  /** `work` fails at the point; its leftovers must not affect the repeated call. */
  async at<T>(t: ExecutionContext, point: FaultPoint, work: () => Promise<T>): Promise<T> {
    this.#point = point;
    const reason = await reasonOf(work());
    t.is<FaultPoint | '', ''>(this.#point, '', `${point} is reached`);
    t.is(reason, 'internal', point);
    return work();
  }
}

async function isClean(t: ExecutionContext, node: ScratchNode, what: string): Promise<void> {
  await node.domain.trash.whenIdle();
  for (const area of ['tmp', 'trash', 'snapshots', 'groups']) {
    t.deepEqual(await readdir(join(node.poolPath, area)), [], `${what}: ${area}`);
  }
  t.is(node.domain.operations.locks.size, 0);
}

const committing = [
  'new:directory-made',
  'new:image-made',
  'new:synced',
  'new:record-written',
  'new:renamed',
  'new:committed',
] as const;
const capturing = ['capture:frozen', 'capture:taken', 'capture:thawed'] as const;

for (const poolFs of ['xfs', 'ext4'] as const) {
  onNode(
    `${poolFs} pool: a failure at any step of snapshots, restores and groups leaves nothing, and the repeated call succeeds`,
    async (t) => {
      const failure = new OneFailure();
      const node = await scratchNode(t, { poolFs, reached: failure.reached });
      const first = await makeMounted(node, 'first', 'ext4');
      const second = await makeMounted(node, 'second', 'btrfs');
      const settings = { freeze: true };
      const { volumes } = node;
      for (const point of [...capturing, ...committing]) {
        const { record } = await failure.at(t, point, () =>
          takeSnapshot(node, 'snap', first.id, { settings }),
        );
        // Nothing is left frozen.
        await writeText(join(first.paths.targetPath, 'file'), point, true);
        await volumes.deleteSnapshot(call(), record.id);
        await isClean(t, node, point);
      }

      const { record } = await takeSnapshot(node, 'source', second.id, { settings });
      const source = { kind: 'snapshot', id: record.id } as const;
      const restoring = ['restore:taken', 'restore:uuid-renewed', 'restore:grown'] as const;
      for (const point of [...restoring, ...committing]) {
        const id = await failure.at(t, point, () => restore(node, 'restored', source));
        await volumes.deleteVolume(call(), id);
      }
      for (const point of ['delete:renamed', 'delete:committed'] as const) {
        const { record: doomed } = await takeSnapshot(node, 'doomed', first.id, { settings });
        await failure.at(t, point, () => volumes.deleteSnapshot(call(), doomed.id));
      }
      await volumes.deleteSnapshot(call(), record.id);
      await node.restart({ reached: failure.reached });
      await isClean(t, node, 'after the restart');

      const sourceVolumeIds = [first.id, second.id];
      const input = { name: 'group', sourceVolumeIds, settings, parameters: {} };
      const grouping = [
        'group:members-made',
        'group:member-renamed',
        'group:members-renamed',
      ] as const;
      for (const point of [...capturing, ...grouping, ...committing]) {
        const group = await failure.at(t, point, () =>
          node.volumes.createGroupSnapshot(call(), input),
        );
        const instants = new Set(group.snapshots.map((one) => one.record.createdAtMs));
        t.is(instants.size, 1, `${point}: one point in time`);
        await writeText(join(second.paths.targetPath, 'file'), point, true);
        await node.volumes.deleteGroupSnapshot(call(), group.record.id, group.record.snapshotIds);
        await isClean(t, node, point);
      }
      for (const { id, paths } of [first, second]) await unmountVolume(node, id, paths);
    },
  );
}
