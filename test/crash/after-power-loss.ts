/** Checks of a pool after a power loss, when a driver has been started on it again. */
import { brokenInvariants, damagedImages, waitUntilIdle } from './invariants.ts';
import { brokenFacts, type Fact } from './load.ts';
import { poolPathsOf } from './run-case.ts';
import type { World } from './test-node.ts';

/** Problems as text: acknowledged data must be present and intact, and nothing incomplete may be left. Leaves volumes staged. */
export async function problemsAfterPowerLoss(
  world: World,
  facts: readonly Fact[],
): Promise<readonly string[]> {
  await waitUntilIdle(poolPathsOf(world));
  return [
    ...(await brokenInvariants(poolPathsOf(world), 'idle')),
    ...(await damagedImages(poolPathsOf(world))),
    ...(await brokenFacts(world, facts)).broken,
  ];
}

/** Unstages all volumes, checks their images, and deletes everything. Returns damaged images and leftovers. */
export async function leftAfterDeletingAll(world: World): Promise<readonly string[]> {
  await world.clear();
  const damaged = await damagedImages(poolPathsOf(world));
  const { entries } = await world.controller.ListVolumes({});
  for (const { volume } of entries) {
    await world.controller.DeleteVolume({ volume_id: volume?.volume_id ?? '' });
  }
  const listed = await world.controller.ListSnapshots({});
  for (const { snapshot } of listed.entries) {
    await world.controller.DeleteSnapshot({ snapshot_id: snapshot?.snapshot_id ?? '' });
  }
  await waitUntilIdle(poolPathsOf(world));
  return [...damaged, ...(await brokenInvariants(poolPathsOf(world), 'empty'))];
}
