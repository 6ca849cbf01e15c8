import { VolumeError } from '../../errors.ts';
import { attachmentOf } from '../attachment/attachment.ts';
import { driverMountPathOf, isStagedInMountDir } from '../attachment/driver-mounts.ts';
import { readNodeState, writeNodeState } from '../attachment/node-state.ts';
import { livePublications } from '../attachment/publications.ts';
import { removeTarget } from '../attachment/target-path.ts';
import type { Domain } from '../domain.ts';
import type { PublishInput } from '../model.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { stage } from './stage.ts';
import { unstage } from './unstage.ts';

/**
 * Stages the volume in the driver's own directory, then publishes it, for callers that do not stage (--without-staging).
 * Targets share the one staging, so mount options must be the same for all of them. What a failed publish staged is undone.
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
    await stage(domain, volume, {
      volumeId: id,
      stagingTargetPath: input.stagingTargetPath,
      capability: {
        ...input.capability,
        // Read-only is the target's matter: another one may write.
        mountFlags: mountFlags.filter((flag) => flag !== 'ro'),
        accessMode: 'SINGLE_NODE_MULTI_WRITER',
      },
    });
    await publish();
  } catch (error) {
    await unstageUnused(domain, volume).catch((second: unknown) => {
      domain.log.warn({ volumeId: id, err: second }, 'a failed publish could not be undone whole');
    });
    throw error;
  }
}

/** Holders of a mount that has gone, with a reboot for example, hold nothing and are forgotten. */
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

/** Ends the driver's own staging of a volume when nothing is published from it any more. Staged by others: nothing to do. */
export async function unstageUnused(domain: Domain, volume: FoundVolume): Promise<void> {
  if (domain.settings.withoutStaging !== true) return;
  const nodeState = await readNodeState(domain, volume);
  if (nodeState.dockerMountIds.length > 0) return;
  const path = driverMountPathOf(domain, volume.record.id);
  const present = await attachmentOf(domain, volume);
  if (isStagedInMountDir(domain, nodeState)) {
    if (livePublications(nodeState.published, present).length > 0) return;
    await unstage(domain, volume, path);
  } else if (nodeState.staged !== null || present.mounts.length > 0) return;
  // Also when an earlier call ended before this, its last step.
  await removeTarget(domain, path);
}
