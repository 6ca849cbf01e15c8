import test from 'ava';
import { GiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

/** A pool whose filesystem has 10 GiB, all free, and keeps 2 GiB of them for root. */
async function poolWithRootBlocks(t: Parameters<typeof fakeNode>[0], reserveBytes: bigint) {
  const node = await fakeNode(t);
  node.host.files.capacity = async () => ({
    totalBytes: 10n * GiB,
    freeBytes: 10n * GiB,
    availableBytes: 8n * GiB,
    totalInodes: 1_000n,
    freeInodes: 1_000n,
  });
  const settings = node.settings('a', { reserve: { bytes: reserveBytes } });
  return node.open([settings]);
}

test('blocks that the filesystem keeps for root are not promised', async (t) => {
  const { volumes, administration } = await poolWithRootBlocks(t, 0n);
  const thick = { settings: { ...plainSettings, provisioning: 'thick', trim: 'off' } } as const;
  const error = await t.throwsAsync(
    volumes.createVolume(call(), volumeInput('v', { sizeBytes: 9n * GiB, ...thick })),
  );
  t.regex(
    error.message,
    /capacity of 8 GiB, but 9 GiB are needed \(10 GiB in total − 2 GiB reserve\)/,
  );
  const [pool] = await administration.listPools();
  t.is(pool?.capacityBytes, 8n * GiB);
});

test('a reserve that covers them is not made larger', async (t) => {
  const { administration } = await poolWithRootBlocks(t, 3n * GiB);
  const [pool] = await administration.listPools();
  t.is(pool?.capacityBytes, 7n * GiB);
});
