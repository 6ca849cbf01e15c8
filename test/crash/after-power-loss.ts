/** Checks of a pool after a power loss, when a driver has been started on it again. */
import { brokenInvariants, damagedImages, waitUntilIdle } from './invariants.ts';
import { brokenFacts, type Fact } from './load.ts';
import { poolPathsOf } from './run-case.ts';
import type { TestNode } from './test-node.ts';

/** Problems as text: acknowledged data must be present and intact, and nothing incomplete may be left. Leaves volumes staged. */
export async function problemsAfterPowerLoss(
  testNode: TestNode,
  facts: readonly Fact[],
): Promise<readonly string[]> {
  await waitUntilIdle(poolPathsOf(testNode));
  return [
    ...(await brokenInvariants(poolPathsOf(testNode), 'idle')),
    ...(await damagedImages(poolPathsOf(testNode))),
    ...(await brokenFacts(testNode, facts)).broken,
  ];
}

/** Unstages all volumes, checks their images, and deletes everything. Returns damaged images and leftovers. */
export async function leftAfterDeletingAll(testNode: TestNode): Promise<readonly string[]> {
  await testNode.clear();
  const damaged = await damagedImages(poolPathsOf(testNode));
  const { entries } = await testNode.controller.ListVolumes({});
  for (const { volume } of entries) {
    await testNode.controller.DeleteVolume({ volume_id: volume?.volume_id ?? '' });
  }
  const listed = await testNode.controller.ListSnapshots({});
  for (const { snapshot } of listed.entries) {
    await testNode.controller.DeleteSnapshot({ snapshot_id: snapshot?.snapshot_id ?? '' });
  }
  await waitUntilIdle(poolPathsOf(testNode));
  return [...damaged, ...(await brokenInvariants(poolPathsOf(testNode), 'empty'))];
}
