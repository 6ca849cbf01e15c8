import { VolumeError } from '../../errors.ts';
import type { Superblock } from '../../host/host.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { type VolumeRecord, volumeRecord } from '../../state/records.ts';
import { formatBytes } from '../../units.ts';
import { detach, staysInUse } from '../attachment/attach.ts';
import { type Attachment, attachmentOf, imageStatusOf } from '../attachment/attachment.ts';
import { superblocksIn } from '../attachment/image-content.ts';
import { targetsOf } from '../attachment/mount-errors.ts';
import { requireAllowedMountFlags } from '../attachment/mount-flags.ts';
import { recoverImage, requireNotTruncated } from '../attachment/prepare-image.ts';
import { findGrowthLimit } from '../capacity.ts';
import type { Domain } from '../domain.ts';
import type { Capability, VolumeKind } from '../model.ts';
import { rewriteRecord } from '../pool/commit.ts';
import type { FoundVolume } from '../pool/pool.ts';

/**
 * The volume as a stage asks for it: a raw block volume whose image has the filesystem of a `mount` capability becomes a filesystem
 * volume, and a raw block volume again if it is staged as one (ADR 0032). Only the record changes, durably, and not a byte of the image.
 * Throws `wrong-state` if the volume is in use, or if the image has no filesystem, another one, or one that cannot be mounted as it is.
 */
export async function asStagedKind(
  domain: Domain,
  volume: FoundVolume,
  { capability, beginEffects }: { capability: Capability; beginEffects: () => void },
): Promise<FoundVolume> {
  const { pool, record } = volume;
  const wasBlock = record.kind === 'block' || record.createdKind === 'block';
  if (capability.kind === record.kind || !wasBlock) return volume;
  pool.requireServed();
  const attachment = await attachmentOf(domain, volume, { withTable: true });
  await requireUnused(domain, volume, attachment);
  await recoverImage(domain, volume, attachment.devices);
  // What was written into a device that is still attached may not be in the image before its detach.
  beginEffects();
  for (const device of attachment.devices) {
    // A read-only device that the driver did not make is of no concern to it.
    if (!device.readOnly || isLabelled(device)) await detach(domain, device, record.id);
  }
  if (capability.kind === 'block')
    return convert(domain, volume, { ...record, kind: 'block', fsType: null, fsUuid: null });
  const { fsType, uuid } = await mountableSuperblock(domain, volume, capability);
  const fields = { kind: 'mount', createdKind: 'block', fsType, fsUuid: uuid } as const;
  requireAllowedMountFlags({ ...record, ...fields }, capability.mountFlags);
  return convert(domain, volume, { ...record, ...fields });
}

async function convert(
  domain: Domain,
  volume: FoundVolume,
  converted: VolumeRecord,
): Promise<FoundVolume> {
  const { area, pool } = volume;
  const { id: volumeId, kind, fsType } = converted;
  await rewriteRecord(domain.host.files, { pool, area, schema: volumeRecord }, converted);
  await domain.reached('stage:kind-recorded');
  domain.log.info({ volumeId, kind, fsType }, 'a volume is used as another kind');
  return { ...volume, record: converted };
}

async function requireUnused(
  domain: Domain,
  { record: { id, kind } }: FoundVolume,
  { mounts, lost, devices }: Attachment,
): Promise<void> {
  const used = [...targetsOf([...mounts, ...lost])];
  for (const device of devices) if (await staysInUse(domain, device)) used.push(device.path);
  if (used.length === 0) return;
  throw new VolumeError(
    'wrong-state',
    `volume '${id}' is in use as a ${describeKind(kind)} (${used.join(', ')}) and cannot be staged as a ${describeKind(kind === 'block' ? 'mount' : 'block')} meanwhile; unpublish and unstage it first`,
  );
}

function describeKind(kind: VolumeKind): string {
  return kind === 'block' ? 'raw block volume' : 'filesystem';
}

/** The superblock of the filesystem that is asked for. Throws `wrong-state` if it is not there, or must be repaired first. */
async function mountableSuperblock(
  domain: Domain,
  volume: FoundVolume,
  { fsType: requested }: Capability,
): Promise<Superblock> {
  const { record, imagePath } = volume;
  const image = await imageStatusOf(domain.host.files, volume);
  await requireNotTruncated(domain, volume, image);
  const [found, ...others] = await superblocksIn(domain.host, imagePath);
  const refused = (why: string): VolumeError =>
    new VolumeError('wrong-state', `volume '${record.id}' is a raw block volume, and ${why}`);
  if (found === undefined) {
    throw refused(
      `contains no ext4, xfs or btrfs filesystem with a valid superblock at its start, or has partitions, or is a member of an md array; no stage makes a filesystem: stage it as a block volume`,
    );
  }
  if (others.length > 0) {
    const types = [found, ...others].map(({ fsType }) => fsType).join(', ');
    throw refused(
      `has valid superblocks of several filesystems (${types}); stage it as a block volume and remove the wrong ones with 'wipefs'`,
    );
  }
  const { fsType, sizeBytes, state, maxSectorSize } = found;
  if (requested !== '' && requested !== fsType) {
    throw refused(
      `contains ${fsType}, not ${requested}; request ${fsType} (in Kubernetes: fsType of the PersistentVolume)`,
    );
  }
  if (sizeBytes > image.sizeBytes) {
    throw refused(
      `its ${fsType} filesystem has ${formatBytes(sizeBytes)} (${sizeBytes} bytes), the volume only ${formatBytes(image.sizeBytes)} (${image.sizeBytes} bytes); restore all of it into a larger volume`,
    );
  }
  if (state === 'has-errors') {
    const repair = { ext4: 'e2fsck -f', xfs: 'xfs_repair', btrfs: 'btrfs check' }[fsType];
    throw refused(
      `its ${fsType} filesystem has recorded errors; stage it as a block volume and repair it with '${repair}'`,
    );
  }
  if (maxSectorSize < record.sectorSize) {
    throw refused(
      `its ${fsType} filesystem was made for sectors of ${maxSectorSize} bytes, while the volume has sectors of ${record.sectorSize}; restore it into a volume with sectorSize '${maxSectorSize}'`,
    );
  }
  await requireGrowable(domain, volume, found);
  return found;
}

/** Throws `wrong-state` if the filesystem is so much smaller than the volume that the stage could not grow it. */
async function requireGrowable(
  domain: Domain,
  { record, imagePath: path }: FoundVolume,
  { fsType, sizeBytes: nowBytes, unusableTailBytes = 0n }: Superblock,
): Promise<void> {
  const { id, sizeBytes } = record;
  const { minGrownBytes } = domain.host.filesystems[fsType];
  if (nowBytes + unusableTailBytes < sizeBytes && sizeBytes < minGrownBytes) {
    throw new VolumeError(
      'wrong-state',
      `volume '${id}' is a raw block volume of ${formatBytes(sizeBytes)}, and its ${fsType} filesystem of ${formatBytes(nowBytes)} can only grow to ${formatBytes(minGrownBytes)} or more; expand the volume to that first`,
    );
  }
  const limit = await findGrowthLimit(domain.host.filesystems, fsType, { path, sizeBytes });
  if (limit === undefined || sizeBytes <= limit.maxBytes) return;
  throw new VolumeError(
    'wrong-state',
    `volume '${id}' is a raw block volume of ${formatBytes(sizeBytes)}, and its ${fsType} filesystem can grow at most by a factor of ${limit.factor} at once, to ${formatBytes(limit.maxBytes)}; restore it into a volume of at most that size`,
  );
}
