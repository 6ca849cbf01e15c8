import { messageOf, VolumeError } from '../../errors.ts';
import { attachmentOf } from '../attachment/attachment.ts';
import { driverMountPathOf, isStagedInMountDir } from '../attachment/mount-dir.ts';
import { readNodeState, writeNodeState } from '../attachment/node-state.ts';
import { livePublications } from '../attachment/publications.ts';
import { removeTarget } from '../attachment/target-path.ts';
import type { Domain } from '../domain.ts';
import type { PublishInput } from '../model.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { stageLocked } from './stage.ts';
import { unstageLocked } from './unstage.ts';

/**
 * Stages the volume in the driver's own directory, then publishes it, for callers that do not stage (--without-staging). All
 * targets share this staging mount, so they must request the same mount options. If the publish fails, the volume is unstaged
 * unless another target uses it.
 */
export async function stageAndPublish(
  domain: Domain,
  volume: FoundVolume,
  input: PublishInput,
  publish: () => Promise<void>,
): Promise<void> {
  const { id } = volume.record;
  await requireNotMountedByDocker(domain, volume);
  const { mountFlags } = input.capability;
  try {
    await stageLocked(domain, volume, {
      volumeId: id,
      stagingTargetPath: input.stagingTargetPath,
      capability: {
        ...input.capability,
        // `ro` applies to one target only, because another target may be writable.
        mountFlags: mountFlags.filter((flag) => flag !== 'ro'),
        accessMode: 'SINGLE_NODE_MULTI_WRITER',
      },
    });
    await publish();
  } catch (error) {
    await unstageUnused(domain, volume).catch((unstageError: unknown) => {
      domain.log.warn(
        { volumeId: id, problem: messageOf(unstageError) },
        'a failed publish could not be undone completely',
      );
    });
    throw error;
  }
}

/**
 * Throws `wrong-state` if Docker has the volume mounted. Mount IDs without a mount, for example after a reboot, are stale and are
 * removed.
 */
async function requireNotMountedByDocker(domain: Domain, volume: FoundVolume): Promise<void> {
  const { id } = volume.record;
  const nodeState = await readNodeState(domain, volume);
  if (nodeState.dockerMountIds.length === 0) return;
  const { mounts } = await attachmentOf(domain, volume);
  if (mounts.some(({ target }) => target === driverMountPathOf(domain, id))) {
    throw new VolumeError(
      'wrong-state',
      `volume '${id}' is in use by containers of this machine as a Docker volume; stop and remove them first`,
    );
  }
  await writeNodeState(domain, volume, { ...nodeState, dockerMountIds: [] });
}

/**
 * Unstages a volume that the driver itself has staged, if it has no publications left. A volume that the caller has staged is not
 * changed.
 */
export async function unstageUnused(domain: Domain, volume: FoundVolume): Promise<void> {
  if (!domain.settings.withoutStaging) return;
  const nodeState = await readNodeState(domain, volume);
  if (nodeState.dockerMountIds.length > 0) return;
  const path = driverMountPathOf(domain, volume.record.id);
  const attachment = await attachmentOf(domain, volume);
  if (isStagedInMountDir(domain, nodeState)) {
    if (livePublications(nodeState.published, attachment).length > 0) return;
    await unstageLocked(domain, volume, path);
  } else if (nodeState.staged !== null || attachment.mounts.length > 0) return;
  // Repeated even if nothing is staged, because an earlier call may have been interrupted before this last step.
  await removeTarget(domain, path);
}
