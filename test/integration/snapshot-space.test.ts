import { randomBytes } from 'node:crypto';
import { open } from 'node:fs/promises';
import { GiB, MiB } from '../../src/units.ts';
import { onNode } from '../helpers/on-node.ts';
import { reasonOf } from '../helpers/reason-of.ts';
import { call, plainSettings, type ScratchNode, scratchNode } from '../helpers/scratch-node.ts';
import { imageOf, makeVolume, restore, takeSnapshot } from '../helpers/snapshot-node.ts';

const sizeBytes = 64n * MiB;

/** Rewrites a volume completely and durably: fails with ENOSPC if its pool promised more than it has. */
async function rewrite(node: ScratchNode, id: string): Promise<void> {
  const file = await open(imageOf(node, 'volumes', id), 'r+');
  const block = randomBytes(Number(4n * MiB));
  try {
    for (let at = 0; at < Number(sizeBytes); at += block.length) {
      await file.write(block, 0, block.length, at);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

for (const poolFs of ['xfs', 'btrfs', 'ext4'] as const) {
  onNode(
    `${poolFs} pool: after snapshots, clones and restores fill it, every volume can still be rewritten`,
    async (t) => {
      const node = await scratchNode(t, { poolFs, poolFsBytes: GiB });
      const thick = { ...plainSettings, provisioning: 'thick', trim: 'off' } as const;
      const ids = [
        await makeVolume(node, 'thin', { kind: 'block', sizeBytes }),
        await makeVolume(node, 'thick', { kind: 'block', sizeBytes, settings: thick }),
      ];
      for (const id of ids) await rewrite(node, id);
      const snapshots: string[] = [];
      let refused = '';
      for (let i = 0; refused === '' && i < 40; i += 1) {
        const source = ids[i % ids.length] ?? '';
        const kind = i % 3;
        const next = async (): Promise<void> => {
          if (kind === 0) {
            snapshots.push((await takeSnapshot(node, `s${i}`, source)).record.id);
            return;
          }
          const from =
            kind === 1
              ? ({ kind: 'volume', id: source } as const)
              : ({ kind: 'snapshot', id: snapshots.at(-1) ?? '' } as const);
          ids.push(await restore(node, `v${i}`, from, { kind: 'block' }));
        };
        refused = (await reasonOf(next())).replace('ok', '');
        // In between, blocks that were just shared are rewritten, too.
        if (refused === '' && i % 4 === 3) await rewrite(node, source);
      }
      t.is(refused, 'no-space');
      t.true(snapshots.length >= 2 && ids.length >= 4, `${snapshots.length} and ${ids.length}`);
      for (const id of ids) await rewrite(node, id);
      t.is(await reasonOf(takeSnapshot(node, 'more', ids[0] ?? '')), 'no-space');

      for (const id of snapshots) await node.volumes.deleteSnapshot(call(), id);
      await node.domain.trash.whenIdle();
      t.is(await reasonOf(takeSnapshot(node, 'again', ids[0] ?? '')), 'ok', 'space is free again');
    },
  );
}
