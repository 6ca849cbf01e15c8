import { join } from 'node:path';
import { VolumeError } from '../errors.ts';
import { type Attachment, attachmentOf, detach } from './attachment.ts';
import type { Domain } from './domain.ts';
import { explained } from './failures.ts';
import { readNotes, writeNotes } from './node-notes.ts';
import type { Call } from './operations.ts';
import type { FoundVolume } from './pools.ts';
import { stagedNode } from './stage.ts';
import { removeTarget, targetOptions, targetPathOf } from './target-path.ts';

/** CSI spec, NodeUnstageVolume: unmount, detach, verify. Not staged is fine; an unknown volume too, or its pod would hang. */
export async function unstageVolume(
  domain: Domain,
  call: Call,
  input: { volumeId: string; stagingTargetPath: string },
): Promise<void> {
  const { volumeId, stagingTargetPath } = input;
  const path = await targetPathOf(domain, stagingTargetPath, 'staging_target_path');
  await domain.operations.run(
    {
      name: 'NodeUnstageVolume',
      owner: volumeId,
      exclusive: [`volume:${volumeId}`],
      request: input,
    },
    call,
    async (operation) => {
      const volume = findIfAny(domain, volumeId);
      operation.beginEffects();
      if (volume === undefined) return;
      await explained(`volume '${volumeId}'`, volume.pool, () => unstage(domain, volume, path));
    },
  );
}

/** The volume, or undefined when there is none of that id on this node. Throws `unavailable` while its pool may be away. */
export function findIfAny(domain: Domain, volumeId: string): FoundVolume | undefined {
  try {
    return domain.pools.getVolume(volumeId);
  } catch (error) {
    if (error instanceof VolumeError && error.reason === 'not-found') return undefined;
    throw error;
  }
}

/** The work of NodeUnstageVolume, under the volume's lock, at a resolved path. Idempotent. */
export async function unstage(domain: Domain, volume: FoundVolume, path: string): Promise<void> {
  const { id } = volume.record;
  await domain.guard.release(id);
  const present = await attachmentOf(domain, volume);
  const notes = await readNotes(domain, volume);
  // Staged somewhere else, perhaps by the driver itself: at this path there is nothing left to do.
  const { staged } = notes;
  const isElsewhere =
    staged !== null &&
    staged.stagingTargetPath !== path &&
    isStagedAt(present, staged.stagingTargetPath);
  if (isElsewhere && !isStagedAt(present, path)) return;
  const published = notes.published.filter(({ targetPath }) =>
    present.mounts.some((mount) => mount.target === targetPath),
  );
  if (published.length > 0) {
    throw new VolumeError(
      'wrong-state',
      `volume '${id}' is still published at ${published.map(({ targetPath }) => targetPath).join(', ')}; unpublish it first`,
    );
  }
  const node = join(path, stagedNode);
  for (const target of [path, node]) {
    // Stacked mounts come off one by one.
    for (const mount of present.mounts) {
      if (mount.target === target)
        await domain.host.mounts.unmount(target, targetOptions(domain, target));
    }
  }
  if (volume.record.kind === 'block') await removeTarget(domain, node);
  await domain.reached('unstage:unmounted');
  for (const device of present.devices) await detach(domain, device, id);
  await domain.reached('unstage:detached');
  await writeNotes(volume, { ...notes, staged: null, published: [] });
  await domain.reached('unstage:forgotten');
}

function isStagedAt(present: Attachment, path: string): boolean {
  const targets = [path, join(path, stagedNode)];
  return present.mounts.some(({ target }) => targets.includes(target));
}
