import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Filesystem, FsType, LoopDevice, Superblock } from '../../host/host.ts';
import type { Domain } from '../domain.ts';
import type { StageInput } from '../model.ts';
import { callIdOf } from '../pool/contents.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { probeWrite } from '../pool/problem.ts';
import { ensureAttached, ensureDeviceSize } from './attach.ts';
import { type Attachment, attachmentOf } from './attachment.ts';
import { mountOptionsOf } from './mount-flags.ts';
import { damagedVolumeError, isSmaller, noSuperblockError, prepareImage } from './prepare-image.ts';
import { targetOptions } from './target-path.ts';
import { duplicateUuidError } from './uuid-conflict.ts';

/**
 * Mounts a volume at its staging path: prepares its image, attaches and mounts it, and grows a filesystem that is smaller than its
 * volume. Returns `not-permitted` if the kernel refuses the growth, or could only refuse it because the mount is read-only.
 */
export async function mountVolume(
  domain: Domain,
  volume: FoundVolume,
  input: StageInput,
  context: {
    readonly fsType: FsType;
    readonly attachment: Attachment;
    readonly growsOffline?: boolean;
    /** Writes the node state, between attach and mount. */
    readonly recordStaging: () => Promise<void>;
  },
): Promise<'grown' | 'not-permitted'> {
  const { fsType, recordStaging, attachment: found } = context;
  const filesystem = domain.host.filesystems[fsType];
  const { mountFlags } = input.capability;
  // The kernel does not grow a filesystem that is mounted read-only.
  const isReadOnly = mountOptionsOf(volume.record, mountFlags).includes('ro');
  const { superblock, attachment } = await prepareImage(domain, volume, {
    filesystem,
    attachment: found,
    growsOffline: context.growsOffline === true || isReadOnly,
  });
  const device = await ensureAttached(domain, volume, attachment);
  await domain.reached('stage:attached');
  await recordStaging();
  const target = input.stagingTargetPath;
  await mountAttached(domain, volume, { fsType, device, target, mountFlags });
  await domain.reached('stage:mounted');
  if (isReadOnly && isSmaller(superblock, volume.record.sizeBytes)) return 'not-permitted';
  return growIfSmaller(domain, volume, { device, superblock, target });
}

/**
 * Mounts a device from `ensureAttached`, which the driver holds open until then; from then on the mount keeps it attached. If the
 * kernel refuses, the device is detached and the error says why.
 */
export async function mountAttached(
  domain: Domain,
  volume: FoundVolume,
  request: {
    readonly fsType: FsType;
    readonly device: LoopDevice;
    readonly target: string;
    readonly mountFlags: readonly string[];
    readonly isReadOnly?: boolean;
  },
): Promise<void> {
  const { fsType, device, target, mountFlags, isReadOnly = false } = request;
  const { host, openDevices } = domain;
  const filesystem = host.filesystems[fsType];
  const mountOptions = mountOptionsOf(volume.record, mountFlags);
  const mount = () =>
    host.mounts.mountDevice(device.path, target, {
      fsType,
      options: [...filesystem.mountOptions, ...mountOptions, ...(isReadOnly ? ['ro'] : [])],
      ...targetOptions(domain, target),
    });
  try {
    try {
      await mount().catch((error: unknown) => {
        // A transient failure of the disk has the same errno, so the mount is tried twice.
        if (!hasErrnoOfDamage(error)) throw error;
        return mount();
      });
      await host.loops.clearAutoclear(device);
    } finally {
      await openDevices.close(host, device);
    }
  } catch (error) {
    await tryDetach(domain, volume, device);
    throw await refusedMountError(domain, volume, { error, mountOptions, filesystem });
  }
}

function hasErrnoOfDamage(error: unknown): boolean {
  return hasErrno(error, 'EINVAL', 'EUCLEAN', 'EBADMSG', 'EFSCORRUPTED', 'EIO');
}

/**
 * The error for a mount that was refused twice. If the superblock cannot be read at all, or the pool accepts no changes, the disk
 * has failed.
 */
async function refusedMountError(
  domain: Domain,
  volume: FoundVolume,
  refusal: { error: unknown; mountOptions: readonly string[]; filesystem: Filesystem },
): Promise<unknown> {
  const { error, mountOptions, filesystem } = refusal;
  const duplicate = await duplicateUuidError(domain, volume, { error, filesystem });
  if (duplicate !== undefined) return duplicate;
  if (!hasErrnoOfDamage(error)) return error;
  const superblock = await filesystem.readSuperblock(volume.imagePath);
  if (superblock === undefined) return noSuperblockError(volume, filesystem.type);
  if (hasErrno(error, 'EIO')) {
    try {
      await probeWrite(domain.host.files, volume.pool.root);
    } catch {
      return error;
    }
    return new VolumeError(
      'wrong-state',
      `volume '${callIdOf(volume)}' was left untouched: mounting it failed twice with an I/O error (${messageOf(error)}); either the disk of pool '${volume.pool.name}' fails or the volume's content is broken: check the kernel's log. ` +
        `If it names the disk, replace the disk; otherwise restore a snapshot or a backup, or repair ${volume.imagePath} manually`,
      { cause: error },
    );
  }
  if (hasErrno(error, 'EINVAL') && mountOptions.length > 0) {
    return new VolumeError(
      'wrong-state',
      `volume '${callIdOf(volume)}': the kernel refuses to mount it with the options '${mountOptions.join(',')}' (${messageOf(error)}); ` +
        "try without them and check the kernel's log: if the kernel still refuses, the filesystem is damaged",
      { cause: error },
    );
  }
  return damagedVolumeError(
    volume,
    `the kernel refused to mount it twice (${messageOf(error)}), although its superblock is valid; check the kernel's log, and first make sure that the pool's disk has no errors`,
  );
}

/** Detaches the device of a failed mount, unless it is mounted elsewhere; a failure is only logged. */
async function tryDetach(domain: Domain, volume: FoundVolume, device: LoopDevice): Promise<void> {
  try {
    const { mounts } = await attachmentOf(domain, volume);
    if (mounts.length === 0) await domain.host.loops.detach(device);
  } catch (error) {
    domain.log.warn(
      { volumeId: callIdOf(volume), problem: messageOf(error) },
      'a device could not be detached after a failed mount; the next start detaches it',
    );
  }
}

/** Grows a mounted filesystem that is smaller than its volume. */
export async function growIfSmaller(
  domain: Domain,
  volume: FoundVolume,
  mounted: { device: LoopDevice; superblock: Superblock; target: string },
): Promise<'grown' | 'not-permitted'> {
  const { record } = volume;
  const { device, superblock, target } = mounted;
  if (record.fsType === null || !isSmaller(superblock, record.sizeBytes)) return 'grown';
  await ensureDeviceSize(domain, device, record.sizeBytes);
  // A frozen filesystem grows only after its thaw.
  await domain.guard.thaw(record.id);
  const outcome = await domain.host.filesystems[record.fsType].growMounted(
    target,
    device,
    record.sizeBytes,
  );
  if (outcome === 'not-permitted') {
    domain.log.warn(
      { volumeId: record.id },
      'ext4 could not be grown while mounted, since the driver lacks CAP_SYS_RESOURCE; it grows the next time that the volume is staged',
    );
    return outcome;
  }
  await domain.reached('stage:filesystem-grown');
  return outcome;
}
