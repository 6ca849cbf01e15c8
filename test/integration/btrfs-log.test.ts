import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { groupIdFor } from '../../src/ids.ts';
import { GiB, MiB } from '../../src/units.ts';
import type { FaultPoint, Reached } from '../../src/volumes/engine/fault-points.ts';
import { onNode } from '../helpers/on-node.ts';
import {
  call,
  type ScratchNode,
  scratchNode,
  testSettings,
  volumeInput,
} from '../helpers/scratch-node.ts';
import { devicesBelow } from '../helpers/scratch-pool.ts';
import { until } from '../helpers/until.ts';

/** btrfs keeps new names in memory and writes them to its tree once there are some hundreds of them. */
const namesUntilWritten = 2_000;

/** A pool on btrfs whose disk can lose its power. */
class BtrfsNode {
  readonly node: ScratchNode;
  readonly #reached: Reached;

  private constructor(node: ScratchNode, reached: Reached) {
    this.node = node;
    this.#reached = reached;
  }

  /** Whenever the driver reaches the fault point, all new names are written to the tree. */
  static async make(t: ExecutionContext, point: FaultPoint): Promise<BtrfsNode> {
    let rounds = 0;
    const reached: Reached = async (at) => {
      if (at !== point) return;
      rounds += 1;
      await makeNames(node.pathOf(`pool/names-${rounds}`));
    };
    const node = await scratchNode(t, { poolFs: 'btrfs', poolFsBytes: GiB, reached });
    const made = new BtrfsNode(node, reached);
    await made.#untilServed();
    return made;
  }

  /** An emulated processor may need longer than a start waits for its pools. */
  async #untilServed(): Promise<void> {
    await until('the pool is served', () => this.node.domain.pools.named('default').isServed);
  }

  /** The log is empty until the next fsync. */
  async commitTransaction(): Promise<void> {
    await execa('sync', ['--file-system', this.node.poolPath]);
  }

  /** Simulates a power cut: the driver starts again on a copy of the disk as it is now. */
  async cutPower(): Promise<void> {
    const { node } = this;
    const poolImage = node.pathOf('pool-fs.img');
    const copy = node.pathOf('after-power-cut.img');
    await execa('cp', ['--sparse=always', poolImage, copy]);
    await node.restart({
      reached: this.#reached,
      whileClosed: async () => {
        // A file that was closed just now keeps the mount busy for a moment.
        await until('the pool is unmounted', async () => {
          const { exitCode } = await execa('umount', [node.poolPath], { reject: false });
          return exitCode === 0;
        });
        for (const { device } of await devicesBelow(node.directory)) {
          await execa('losetup', ['--detach', device]);
        }
        await rename(copy, poolImage);
        const { stdout } = await execa('losetup', ['--find', '--show', poolImage]);
        await execa('mount', [stdout, node.poolPath]);
      },
    });
    await this.#untilServed();
  }
}

async function makeNames(directory: string): Promise<void> {
  await mkdir(directory);
  for (let name = 0; name < namesUntilWritten; name += 1) await mkdir(join(directory, `${name}`));
}

for (const point of ['new:record-written', 'new:synced'] as const) {
  onNode(
    `btrfs can be mounted after a power cut if its new names were written at ${point}`,
    async (t) => {
      const pool = await BtrfsNode.make(t, point);
      const { node } = pool;
      const make = (name: string) =>
        node.volumes.createVolume(
          call(),
          volumeInput(name, { kind: 'block', sizeBytes: 16n * MiB }),
        );
      await pool.commitTransaction();
      const { record: first } = await make('first');
      await pool.cutPower();
      t.deepEqual(node.domain.pools.getVolume(first.id).record, first);

      const { record: second } = await make('second');
      await pool.commitTransaction();
      const { record: group } = await node.volumes.createGroupSnapshot(call(), {
        name: 'group',
        sourceVolumeIds: [first.id, second.id],
        settings: { freeze: false },
        parameters: {},
      });
      const groupId = groupIdFor('group', testSettings.nodeTag);
      await pool.cutPower();
      t.deepEqual(node.domain.pools.findGroup(groupId)?.record, group);

      await node.volumes.deleteGroupSnapshot(call(), group.id, group.snapshotIds);
      await pool.cutPower();
      t.is(node.domain.pools.findGroup(groupId), undefined);
      t.deepEqual(node.domain.pools.getVolume(second.id).record, second);
    },
  );
}
