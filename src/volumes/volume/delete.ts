import { VolumeError } from '../../errors.ts';
import type { LoopDevice } from '../../host/host.ts';
import { parseVolumeId, requireOwnNodeTag, type VolumeId } from '../../ids.ts';
import { detach } from '../attachment/attach.ts';
import { type Attachment, attachmentOf, attachmentOfDevices } from '../attachment/attachment.ts';
import { attachmentByLabel } from '../attachment/attachment-for-teardown.ts';
import { reloadSetAside } from '../attachment/duplicates.ts';
import { endTemporaryMounts } from '../attachment/temporary-mounts.ts';
import type { Domain } from '../domain.ts';
import { toVolumeError, withReason } from '../engine/failures.ts';
import { volumeLock } from '../engine/locks.ts';
import type { Call } from '../engine/operations.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { requireRemovable } from '../pool/set-aside.ts';

/** The operations that create a volume, which a delete cancels. */
export const creatingCalls: readonly string[] = ['CreateVolume', 'ImportVolume'];

/**
 * CSI spec, DeleteVolume. Succeeds for an unknown volume if every pool is served, otherwise throws `unavailable`. Throws
 * `wrong-state` if the volume is staged or published, belongs to another node, or is set aside as a duplicate or because a later
 * version of the driver wrote it.
 */
export async function deleteVolume(domain: Domain, call: Call, volumeId: string): Promise<void> {
  const id = parseVolumeId(volumeId);
  if (id === undefined) return;
  requireOwnNodeTag(id, { nodeTag: domain.settings.nodeTag, kind: 'volume' });
  const lane = { kind: 'volume', id } as const;
  // A call in progress that creates it is cancelled. This call is still refused as busy, and its retry finds no volume.
  for (const name of creatingCalls)
    domain.operations.abort(lane, name, `volume '${id}' is being deleted`);
  await domain.operations.run(
    domain,
    call,
    { name: 'DeleteVolume', lane, exclusive: [volumeLock(id)], request: id },
    async (domain, operation) => {
      await reloadSetAside(domain, { area: 'volumes', id });
      const aside = domain.pools.findSetAside('volumes', id);
      if (aside.length > 0) {
        for (const { pool, why } of aside) {
          pool.requireServed();
          requireRemovable(why);
        }
        for (const { pool } of aside) {
          await withReason(domain, { subject: `volume '${id}'`, disk: pool }, (domain) =>
            removeUnreadable(domain, pool, id),
          );
        }
        return;
      }
      const volume = domain.pools.findVolume(id);
      if (volume === undefined) {
        domain.pools.requireAllServed();
        await domain.interruptedCreates.remove(id);
        await domain.interruptedRestores.discard(id);
        await domain.trash.syncDiscarded();
        return;
      }
      await withReason(domain, { subject: `volume '${id}'`, disk: volume.pool }, async (domain) => {
        const found = await attachmentForDelete(domain, volume);
        const attachment = await endTemporaryMounts(domain, found);
        await requireUnused(domain, id, attachment);
        operation.beginEffects();
        await discard(domain, volume, attachment.devices);
      });
    },
  );
}

/** Detaches an unused volume, which may be an inline volume, and moves it to the trash. */
export async function detachAndDiscard(domain: Domain, volume: FoundVolume): Promise<void> {
  const found = await attachmentForDelete(domain, volume);
  const { devices } = await endTemporaryMounts(domain, found);
  await discard(domain, volume, devices);
}

async function discard(
  domain: Domain,
  { pool, area, record, imagePath }: FoundVolume,
  devices: readonly LoopDevice[],
): Promise<void> {
  await withReason(domain, { subject: `volume '${record.id}'`, disk: pool }, async (domain) => {
    await domain.host.files.requireNoProgram(imagePath);
    for (const device of devices) await detach(domain, device, record.id);
    await domain.reached('delete:detached');
    await domain.trash.discard(domain.host, pool, area, record.id);
  });
}

/** Finds the volume's devices by the inode of its image, which is cheap, or by their label if the image is missing. */
async function attachmentForDelete(domain: Domain, volume: FoundVolume): Promise<Attachment> {
  // Throws if the pool is not open. Recovery calls this while the pool is open but not served yet.
  volume.pool.directoryOf(volume.area);
  try {
    return await attachmentOf(domain, volume);
  } catch (error) {
    if (error instanceof VolumeError) {
      return attachmentByLabel(domain, [volume.record.id], { volume });
    }
    throw await toVolumeError(error, `volume '${volume.record.id}'`, volume.pool);
  }
}

async function requireUnused(domain: Domain, id: string, attachment: Attachment): Promise<void> {
  const { devices } = attachment;
  const mounts = [...attachment.mounts, ...attachment.lost];
  if (mounts.length > 0) {
    throw new VolumeError(
      'wrong-state',
      `volume '${id}' is in use: mounted at ${mounts.map((mount) => mount.target).join(', ')}; unpublish and unstage it first`,
    );
  }
  for (const device of devices) {
    if (await domain.host.loops.isInUse(device)) {
      throw new VolumeError(
        'wrong-state',
        `volume '${id}' is in use: another mount namespace or process uses ${device.path}; end that use first`,
      );
    }
  }
}

/** Deletes a volume whose record cannot be read. Its devices and mounts are known from the kernel. */
async function removeUnreadable(domain: Domain, pool: Pool, id: VolumeId): Promise<void> {
  const image = await domain.host.files
    .imageStatus(pool.imagePathOf('volumes', id))
    .catch(() => undefined);
  const attachment =
    image === undefined
      ? await attachmentByLabel(domain, [id])
      : await attachmentOfDevices(domain, await domain.host.loops.findByImage(image));
  await requireUnused(domain, id, await endTemporaryMounts(domain, attachment));
  await domain.host.files.requireNoProgram(pool.imagePathOf('volumes', id));
  for (const device of attachment.devices) await detach(domain, device, id);
  await domain.trash.discard(domain.host, pool, 'volumes', id);
}
