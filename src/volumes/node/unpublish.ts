import { VolumeError } from '../../errors.ts';
import type { Mount } from '../../host/host.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { exposesDevice, isNodeOf } from '../../host/mount/loop-mounts.ts';
import { ephemeralIdFor } from '../../ids.ts';
import { detach } from '../attachment/attach.ts';
import { type Attachment, attachmentOfDevices, mountsAt } from '../attachment/attachment.ts';
import { attachmentByLabel, attachmentForTeardown } from '../attachment/attachment-for-teardown.ts';
import { foreignMountError } from '../attachment/mount-errors.ts';
import { readNodeStateIfReadable } from '../attachment/node-state.ts';
import { stagingMountPaths } from '../attachment/staging-path.ts';
import { checkedTargetPath, removeTarget, targetOptions } from '../attachment/target-path.ts';
import { unmountVolume } from '../attachment/unmount.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { detachAndDiscard } from '../volume/delete.ts';
import { lockForTeardown } from './lock-for-teardown.ts';
import { unstageUnused } from './without-staging.ts';

/**
 * CSI spec, NodeUnpublishVolume: unmounts the target and removes it. Succeeds if the target is not mounted, and for an unknown
 * volume: otherwise, its pod could never terminate. Also deletes an inline volume. With `keepTarget`, the target directory is
 * kept, as umount(8) does.
 */
export async function unpublishVolume(
  domain: Domain,
  call: Call,
  input: { volumeId: string; targetPath: string; keepTarget?: boolean },
): Promise<void> {
  const targetPath = await checkedTargetPath(domain, input.targetPath, 'target_path');
  const volumeCall = { name: 'NodeUnpublishVolume', path: targetPath, request: input };
  await lockForTeardown(domain, call, volumeCall, async (domain, volume) => {
    if (volume === undefined) await unpublishUnknown(domain, { ...input, targetPath });
    else await unpublish(domain, volume, { ...input, targetPath });
  });
}

interface UnpublishInput {
  readonly targetPath: string;
  readonly keepTarget?: boolean;
}

async function unpublish(
  domain: Domain,
  volume: FoundVolume,
  input: UnpublishInput,
): Promise<void> {
  const { targetPath } = input;
  const { id, ephemeralTarget } = volume.record;
  const attachment = await attachmentForTeardown(domain, volume, targetPath);
  await requireNotStaging(domain, volume, { targetPath, attachment });
  await unmountTarget(domain, attachment, { id, ...input });
  await domain.reached('unpublish:target-removed');
  if (ephemeralTarget !== null) {
    await domain.guard.thaw(id);
    await domain.reached('ephemeral:unmounted');
    // The inline volume is kept if any other path is unpublished.
    if (ephemeralTarget === targetPath) await detachAndDiscard(domain, volume);
    return;
  }
  await detachReadOnly(domain, attachment, { id, targetPath });
  await domain.reached('unpublish:detached');
  // The publication is not removed from the node state here: without its mount it is ignored, and the next write omits it.
  await unstageUnused(domain, volume);
}

/**
 * Throws `invalid` if `targetPath` is the staging path. All targets are bind mounts of the staging mount, so only
 * NodeUnstageVolume may unmount it, after it has checked for other targets.
 */
async function requireNotStaging(
  domain: Domain,
  volume: FoundVolume,
  { targetPath, attachment }: { targetPath: string; attachment: Attachment },
): Promise<void> {
  const staged = (await readNodeStateIfReadable(domain, volume))?.staged ?? null;
  const there = [...attachment.mounts, ...attachment.lost];
  if (staged === null || !there.some(({ target }) => target === targetPath)) return;
  if (!stagingMountPaths(staged.stagingTargetPath).includes(targetPath)) return;
  throw new VolumeError(
    'invalid',
    `volume '${volume.record.id}' is staged at ${targetPath}, not published there; unstage it instead`,
  );
}

/**
 * Unpublishes a volume without a usable record: unmounts the target, and detaches the unused devices that have the volume's
 * label.
 */
async function unpublishUnknown(
  domain: Domain,
  input: UnpublishInput & { volumeId: string },
): Promise<void> {
  const { volumeId } = input;
  const ids = [volumeId, ephemeralIdFor(volumeId, domain.settings.nodeTag)];
  const { targetPath } = input;
  const attachment = await attachmentByLabel(domain, ids, {
    path: targetPath,
    claimedTargets: [targetPath],
  });
  await unmountTarget(domain, attachment, { id: volumeId, ...input });
  const { devices, mounts } = await attachmentOfDevices(domain, attachment.devices);
  for (const device of devices) {
    if (mounts.some((mount) => exposesDevice(mount, device))) continue;
    if (await domain.host.loops.isInUse(device)) continue;
    await detach(domain, device, volumeId);
  }
}

/** Unmounts the volume at the target, including stacked mounts, and removes the target. */
async function unmountTarget(
  domain: Domain,
  attachment: Attachment,
  input: UnpublishInput & { id: string },
): Promise<void> {
  const { id, targetPath } = input;
  const isFrozen = await domain.guard.prepareUnmount(id);
  const isOurs = (mount: Mount): boolean =>
    [...attachment.mounts, ...attachment.lost].some((one) => one.id === mount.id);
  // Stacked mounts are unmounted one by one, from the top.
  for (const top of [...(await mountsAt(domain.host.mounts, attachment, targetPath))].reverse()) {
    if (!isOurs(top)) {
      throw foreignMountError(id, top);
    }
    const options = targetOptions(domain, targetPath);
    await unmountVolume(domain.host, { volumeId: id, target: targetPath, options, isFrozen });
  }
  await domain.reached('unpublish:unmounted');
  if (input.keepTarget !== true) await removeTarget(domain, targetPath);
}

/**
 * Detaches the read-only device of a raw block volume after its last target was unmounted. `attachment` was read before the
 * unmount.
 */
async function detachReadOnly(
  domain: Domain,
  attachment: Attachment,
  { id, targetPath }: { id: string; targetPath: string },
): Promise<void> {
  for (const device of attachment.devices) {
    // A device without the driver's label belongs to other software, for example a backup.
    if (!device.readOnly || !isLabelled(device)) continue;
    const others = attachment.mounts.some(
      (mount) => mount.target !== targetPath && isNodeOf(mount, device),
    );
    if (!others) await detach(domain, device, id);
  }
}
