import { VolumeError } from '../errors.ts';
import { attachmentOf, detach } from './attachment.ts';
import type { Domain } from './domain.ts';
import { explained } from './failures.ts';
import { parseVolumeId, tagOf } from './ids.ts';
import type { Call } from './operations.ts';
import type { FoundVolume } from './pools.ts';

/**
 * CSI spec, DeleteVolume: an unknown volume is deleted already, but only when every pool could be asked. Throws `wrong-state`
 * while it is staged or published, or when it belongs to another node; `unavailable` while a pool is away.
 */
export async function deleteVolume(domain: Domain, call: Call, volumeId: string): Promise<void> {
  const id = parseVolumeId(volumeId);
  if (id === undefined) return;
  if (tagOf(id) !== domain.settings.nodeTag) {
    throw new VolumeError(
      'wrong-state',
      `volume '${id}' belongs to the node with tag ${tagOf(id)}, this one is ${domain.settings.nodeTag}; delete it there`,
    );
  }
  // A copy that is still being made stops for its delete; the caller's next try finds it gone.
  domain.operations.abort(id, 'CreateVolume', `volume '${id}' is being deleted`);
  await domain.operations.run(
    { name: 'DeleteVolume', owner: id, exclusive: [`volume:${id}`], request: id },
    call,
    async (operation) => {
      if (isBroken(domain, id)) return removeBroken(domain, id);
      const volume = domain.pools.findVolume(id);
      if (volume === undefined) {
        domain.pools.requireAllServed();
        return;
      }
      await requireUnused(domain, volume);
      operation.beginEffects();
      await removeVolume(domain, volume);
    },
  );
}

/** Detaches and discards a volume that nobody uses. Shared with inline ephemeral volumes. */
export async function removeVolume(domain: Domain, volume: FoundVolume): Promise<void> {
  const { pool, area, record } = volume;
  await explained(`volume '${record.id}'`, pool, async () => {
    if (await imageIsThere(domain, volume)) {
      const { devices } = await attachmentOf(domain, volume);
      for (const device of devices) await detach(domain, device, record.id);
    }
    await domain.reached('delete:detached');
    await domain.trash.discard(pool, area, record.id);
    (area === 'volumes' ? pool.volumes : pool.ephemerals).delete(record.id);
    pool.room.invalidate();
  });
}

async function requireUnused(domain: Domain, volume: FoundVolume): Promise<void> {
  const { id } = volume.record;
  volume.pool.requireServed();
  if (!(await imageIsThere(domain, volume))) return;
  const { devices, mounts } = await attachmentOf(domain, volume);
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
        `volume '${id}' is in use: ${device.path} is held by another mount namespace or process; end that first`,
      );
    }
  }
}

async function imageIsThere(domain: Domain, volume: FoundVolume): Promise<boolean> {
  return domain.host.files.imageStatus(volume.imagePath).then(
    () => true,
    () => false,
  );
}

function isBroken(domain: Domain, id: string): boolean {
  return domain.pools.all.some((pool) => pool.volumes.broken.has(id));
}

/** Its record says nothing, so that nobody can have staged it since the start; what is attached from before stops the delete. */
async function removeBroken(domain: Domain, id: string): Promise<void> {
  for (const pool of domain.pools.all) {
    if (!pool.volumes.broken.has(id)) continue;
    pool.requireServed();
    const status = await domain.host.files
      .imageStatus(pool.pathOf('volumes', id, 'disk.img'))
      .catch(() => undefined);
    const devices = status === undefined ? [] : await domain.host.loops.findByImage(status);
    if (devices.length > 0) {
      throw new VolumeError(
        'wrong-state',
        `volume '${id}' is attached as ${devices[0]?.path ?? 'a loop device'} and its record cannot be read; unmount and detach it by hand first`,
      );
    }
    await domain.trash.discard(pool, 'volumes', id);
    pool.volumes.delete(id);
  }
}
