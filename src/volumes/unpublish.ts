import { VolumeError } from '../errors.ts';
import type { Mount } from '../host/host.ts';
import { attachmentOf, detach, isMountOf, isNodeOf } from './attachment.ts';
import { removeVolume } from './delete.ts';
import type { Domain } from './domain.ts';
import { explained } from './failures.ts';
import { readNotes, writeNotes } from './node-notes.ts';
import type { Call } from './operations.ts';
import { unstageUnused } from './own-staging.ts';
import type { FoundVolume } from './pools.ts';
import { removeTarget, targetOptions, targetPathOf } from './target-path.ts';
import { findIfAny } from './unstage.ts';

/**
 * CSI spec, NodeUnpublishVolume: unmounts the target and removes it; nothing mounted is fine, and so is a volume nobody knows,
 * or its pod would hang. An inline ephemeral volume is freed with it. `keepTarget` leaves the directory, as umount(8) does.
 */
export async function unpublishVolume(
  domain: Domain,
  call: Call,
  input: { volumeId: string; targetPath: string; keepTarget?: boolean },
): Promise<void> {
  const { volumeId } = input;
  const targetPath = await targetPathOf(domain, input.targetPath, 'target_path');
  await domain.operations.run(
    {
      name: 'NodeUnpublishVolume',
      owner: volumeId,
      exclusive: [`volume:${volumeId}`],
      request: input,
    },
    call,
    async (operation) => {
      const ephemeral = domain.pools.findEphemeral(volumeId);
      const volume = ephemeral ?? findIfAny(domain, volumeId);
      operation.beginEffects();
      await explained(`volume '${volumeId}'`, volume?.pool, async () => {
        if (volume === undefined) await cleanUnknown(domain, volumeId, targetPath);
        else await unpublish(domain, volume, { ...input, targetPath });
        if (ephemeral === undefined) return;
        await domain.reached('ephemeral:unmounted');
        await removeVolume(domain, ephemeral);
      });
    },
  );
}

async function unpublish(
  domain: Domain,
  volume: FoundVolume,
  input: { targetPath: string; keepTarget?: boolean },
): Promise<void> {
  const { targetPath } = input;
  const { id } = volume.record;
  await domain.guard.release(id);
  const present = await attachmentOf(domain, volume);
  const isOurs = (mount: Mount): boolean =>
    present.devices.some((device) => isMountOf(mount, device) || isNodeOf(mount, device));
  for (
    let top = await domain.host.mounts.at(targetPath);
    top !== undefined;
    top = await domain.host.mounts.at(targetPath)
  ) {
    if (!isOurs(top)) {
      throw new VolumeError(
        'wrong-state',
        `volume '${id}': something else (${top.source}) is mounted at ${targetPath}; unmount it first`,
      );
    }
    await domain.host.mounts.unmount(targetPath, targetOptions(domain, targetPath));
  }
  await domain.reached('unpublish:unmounted');
  if (input.keepTarget !== true) await removeTarget(domain, targetPath);
  await domain.reached('unpublish:target-removed');
  await detachReadOnly(domain, volume);
  await domain.reached('unpublish:detached');
  const notes = await readNotes(domain, volume);
  await writeNotes(volume, {
    ...notes,
    published: notes.published.filter((one) => one.targetPath !== targetPath),
  });
  await domain.reached('unpublish:forgotten');
  await unstageUnused(domain, volume);
}

/** The second, read-only device of a raw block volume goes with its last target. */
async function detachReadOnly(domain: Domain, volume: FoundVolume): Promise<void> {
  const { devices, mounts } = await attachmentOf(domain, volume);
  for (const device of devices) {
    if (!device.readOnly || mounts.some((mount) => isNodeOf(mount, device))) continue;
    await detach(domain, device, volume.record.id);
  }
}

/** A target whose volume is gone: unmounted only when a device of ours is mounted there. */
async function cleanUnknown(domain: Domain, volumeId: string, targetPath: string): Promise<void> {
  const top = await domain.host.mounts.at(targetPath);
  if (top !== undefined) {
    const devices = await domain.host.loops.list();
    const device = devices.find((one) => isMountOf(top, one) || isNodeOf(top, one));
    if (device?.mark.startsWith('loopcsi:') !== true) {
      throw new VolumeError(
        'wrong-state',
        `volume '${volumeId}' is unknown, and what is mounted at ${targetPath} (${top.source}) is not of this driver; unmount it by hand`,
      );
    }
    await domain.host.mounts.unmount(targetPath, targetOptions(domain, targetPath));
  }
  await removeTarget(domain, targetPath);
}
