import { VolumeError } from '../../errors.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { detach } from '../attachment/attach.ts';
import { type Attachment, attachmentOfDevices } from '../attachment/attachment.ts';
import { attachmentByLabel, attachmentForTeardown } from '../attachment/attachment-for-teardown.ts';
import { targetsOf } from '../attachment/mount-errors.ts';
import { readNodeStateIfReadable, writeNodeState } from '../attachment/node-state.ts';
import { livePublications } from '../attachment/publications.ts';
import { stagedNodePath, stagingMountPaths } from '../attachment/staging-path.ts';
import { checkedTargetPath, removeTarget, targetOptions } from '../attachment/target-path.ts';
import { endTemporaryMounts } from '../attachment/temporary-mounts.ts';
import { unmountVolume } from '../attachment/unmount.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { lockForTeardown } from './lock-for-teardown.ts';

/**
 * CSI spec, NodeUnstageVolume: unmounts the volume, detaches its devices and verifies this. Succeeds for a volume that is not
 * staged or unknown: otherwise, its pod could never terminate.
 */
export async function unstageVolume(
  domain: Domain,
  call: Call,
  input: { volumeId: string; stagingTargetPath: string },
): Promise<void> {
  const { volumeId, stagingTargetPath } = input;
  const path = await checkedTargetPath(domain, stagingTargetPath, 'staging_target_path');
  const volumeCall = { name: 'NodeUnstageVolume', path, request: input };
  await lockForTeardown(domain, call, volumeCall, async (domain, volume) => {
    if (volume !== undefined) return unstageLocked(domain, volume, path);
    const found = await attachmentByLabel(domain, [volumeId], {
      path,
      claimedTargets: [stagedNodePath(path)],
    });
    const attachment = await endTemporaryMounts(domain, found);
    return unmountAndDetach(domain, attachment, { volume, id: volumeId, path });
  });
}

/** Unstages a volume that the caller has locked, at a path that the caller has resolved. Idempotent. */
export async function unstageLocked(
  domain: Domain,
  volume: FoundVolume,
  path: string,
): Promise<void> {
  const { id } = volume.record;
  const attachment = await endTemporaryMounts(
    domain,
    await attachmentForTeardown(domain, volume, path),
  );
  const nodeState = await readNodeStateIfReadable(domain, volume);
  // If the volume is staged only at another path, perhaps by the driver itself, there is nothing to do at this path.
  const staged = nodeState?.staged ?? null;
  const isStagedElsewhere =
    staged !== null &&
    staged.stagingTargetPath !== path &&
    isStagedAt(attachment, staged.stagingTargetPath);
  if (isStagedElsewhere && !isStagedAt(attachment, path)) return;
  const published =
    nodeState === undefined
      ? otherTargets(attachment, path)
      : livePublications(nodeState.published, attachment).map(({ targetPath }) => targetPath);
  if (published.length > 0) throw stillMountedError(id, published);
  await unmountAndDetach(domain, attachment, { volume, id, path });
  domain.guard.forgetExpired(id);
  // The node state is only written if it contains a stage or a publication.
  if (nodeState !== undefined && (staged !== null || nodeState.published.length > 0)) {
    await writeNodeState(domain, volume, { ...nodeState, staged: null, published: [] });
  }
  await domain.reached('unstage:forgotten');
}

/** Unmounts the filesystem or device node at the path, and detaches the devices if nothing else is mounted. */
async function unmountAndDetach(
  domain: Domain,
  attachment: Attachment,
  input: { volume: FoundVolume | undefined; id: string; path: string },
): Promise<void> {
  const { volume, id, path } = input;
  const node = stagedNodePath(path);
  const targets = [path, node];
  const mounted = [...attachment.mounts, ...attachment.lost];
  const isFrozen = await domain.guard.prepareUnmount(id);
  // Stacked mounts are unmounted one by one.
  for (const { target } of mounted) {
    if (targets.includes(target)) {
      const options = targetOptions(domain, target);
      await unmountVolume(domain.host, { volumeId: id, target, options, isFrozen });
    }
  }
  if (volume?.record.kind === 'block' || mounted.some(({ target }) => target === node)) {
    await removeTarget(domain, node);
  }
  await domain.reached('unstage:unmounted');
  // A read-only device without the driver's label belongs to other software, for example a backup.
  const devices = attachment.devices.filter((device) => !device.readOnly || isLabelled(device));
  // The detach of a device that is mounted elsewhere would fail, or leave a bind-mounted device node that may later belong to
  // another image.
  if (attachment.mounts.some(({ target }) => !targets.includes(target))) {
    const { mounts } = await attachmentOfDevices(domain, devices, { volume, isTeardown: true });
    if (mounts.length > 0) throw stillMountedError(id, targetsOf(mounts));
  }
  await domain.guard.thaw(id);
  for (const device of devices) await detach(domain, device, id);
  await domain.reached('unstage:detached');
}

function stillMountedError(id: string, targets: readonly string[]): VolumeError {
  return new VolumeError(
    'wrong-state',
    `volume '${id}' is still mounted at ${targets.join(', ')}; unpublish it there first`,
  );
}

/** Returns the other mounts, each of which may be a publication if there is no readable node state. */
function otherTargets({ mounts }: Attachment, path: string): readonly string[] {
  const paths = stagingMountPaths(path);
  return mounts.map(({ target }) => target).filter((target) => !paths.includes(target));
}

function isStagedAt(attachment: Attachment, path: string): boolean {
  const paths = stagingMountPaths(path);
  return attachment.mounts.some(({ target }) => paths.includes(target));
}
