import { pollUntil } from '../../async.ts';
import { VolumeError } from '../../errors.ts';
import type { LoopDevice, Mount } from '../../host/host.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { exposesDevice, isNodeOf } from '../../host/mount/loop-mounts.ts';
import type { VolumeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { toVolumeError } from '../engine/failures.ts';
import { callIdOf } from '../pool/contents.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { dirtyLimitBytes, isFreezable } from '../pool/thresholds.ts';
import type { Attachment } from './attachment.ts';
import { ownersOf } from './device-binds.ts';
import { limitDevice, requireLimitsApplicable } from './io-limits.ts';
import { describeDeviceUsers } from './unmount.ts';

/** Time limit for a device to become unused after its unmount. */
const releaseTimeoutMs = 2_000;
const releasePollMs = 20;

/**
 * Returns the read-write device of the image, and attaches one if there is none: an image must never have two (docs/design.md,
 * guarantee 7). The driver keeps the device open until the caller mounts it with `mountAttached` or binds its node. Throws
 * `wrong-state` for a device that must not be used.
 */
export async function ensureAttached(
  domain: Domain,
  volume: FoundVolume,
  attachment: Attachment,
): Promise<LoopDevice> {
  await requireNotExposed(domain, volume, attachment);
  await detachForeignDevices(domain, volume, attachment);
  const { readWrite } = attachment;
  const isOurs = readWrite !== undefined && isLabelled(readWrite);
  if (isOurs && (await keepOpen(domain, volume, readWrite))) {
    await limitDevice(domain, volume, readWrite);
    return readWrite;
  }
  return attach(domain, volume, { readOnly: false, mounts: attachment.table });
}

/**
 * Throws `wrong-state` if another volume has lost a device with the number that this volume's device has now: the data would be
 * visible at the targets of the other volume.
 */
async function requireNotExposed(
  domain: Domain,
  volume: FoundVolume,
  { exposed, devices }: Attachment,
): Promise<void> {
  const [bind] = exposed;
  if (bind === undefined) return;
  const { id } = volume.record;
  const [owner = 'another volume'] = await ownersOf(domain, bind.target, id);
  const device = devices.find((one) => isNodeOf(bind, one))?.path ?? bind.root;
  throw new VolumeError(
    'wrong-state',
    `volume '${id}' is attached to ${device}; volume '${owner}' lost a device of that number and still has it bound at ${exposed.map(({ target }) => target).join(', ')}, where the data of '${id}' can be seen; ` +
      `unpublish and unstage '${owner}' first`,
  );
}

/**
 * Detaches the writable devices that other processes attached, since two devices that write to one image corrupt it. Throws
 * `wrong-state` if one of them is in use.
 */
async function detachForeignDevices(
  domain: Domain,
  volume: FoundVolume,
  { devices, readWrite, mounts }: Attachment,
): Promise<void> {
  const { id } = volume.record;
  for (const device of devices) {
    if (device.readOnly || (device === readWrite && isLabelled(device))) continue;
    const at = mounts.find((mount) => exposesDevice(mount, device))?.target;
    if (at !== undefined || (await domain.host.loops.isInUse(device))) {
      throw new VolumeError(
        'wrong-state',
        `volume '${id}': another process attached its image ${volume.imagePath} to ${device.path}, which is in use${at === undefined ? '' : ` (mounted at ${at})`}; ` +
          `end that use, then run 'losetup --detach ${device.path}'`,
      );
    }
    await detach(domain, device, id);
    domain.log.warn(
      { volumeId: id, device: device.path },
      'a device that another process attached was detached',
    );
  }
}

/** Attaches a device for the volume, with its I/O limits, and keeps it open. `readOnly`: the second device, for a read-only raw block publish. */
export async function attach(
  domain: Domain,
  volume: FoundVolume,
  options: { readOnly: boolean; mounts?: readonly Mount[] | undefined },
): Promise<LoopDevice> {
  const { record } = volume;
  try {
    await requireLimitsApplicable(domain, `volume '${callIdOf(volume)}'`, record.limits);
    const device = await domain.host.loops.attach(volume.imagePath, {
      sectorSize: record.sectorSize,
      readOnly: options.readOnly,
      directIo: record.directIo,
      discard: record.provisioning === 'thin' && record.trim !== 'off',
      label: record.id,
      hold: true,
      mounts: options.mounts,
      ...(isFreezable(volume.pool, record) && !options.readOnly ? { dirtyLimitBytes } : {}),
    });
    domain.openDevices.add({ device, volumeId: callIdOf(volume), pool: volume.pool.name });
    warnOfBufferedIo(domain, record, device);
    await limitDevice(domain, volume, device);
    return device;
  } catch (error) {
    throw await toVolumeError(error, `volume '${record.id}': cannot attach its image`, volume.pool);
  }
}

function warnOfBufferedIo(domain: Domain, record: VolumeRecord, device: LoopDevice): void {
  if (!record.directIo || device.directIo) return;
  domain.log.warn(
    { volumeId: record.id, device: device.path, sectorSize: record.sectorSize },
    'the kernel refused direct I/O for an image, whose filesystem needs larger sectors or does not support it; its data is cached twice',
  );
}

/** Keeps the device of the volume open in the driver. Returns whether it is still attached to its image. */
export function keepOpen(
  domain: Domain,
  volume: FoundVolume,
  device: LoopDevice,
): Promise<boolean> {
  const pool = volume.pool.name;
  return domain.openDevices.open(domain.host, { device, volumeId: callIdOf(volume), pool });
}

/**
 * Whether the device is still in use after a wait. The wait is needed because an unmount completes in the background, and the
 * mounts of a container end with its last process.
 */
export async function staysInUse(domain: Domain, device: LoopDevice): Promise<boolean> {
  const isUnused = async () => !(await domain.host.loops.isInUse(device));
  return !(await pollUntil(isUnused, { timeoutMs: releaseTimeoutMs, pauseMs: releasePollMs }));
}

/** Detaches an unused device. Throws `busy` if it turns out to be in use. */
export async function detach(domain: Domain, device: LoopDevice, volumeId: string): Promise<void> {
  domain.openDevices.forget(device);
  const outcome = await domain.host.loops.detach(device);
  if (outcome === 'detached') return;
  const users = await describeDeviceUsers(domain.host, device);
  const by = users === '' ? ', perhaps in another mount namespace' : users;
  throw new VolumeError(
    'busy',
    `volume '${volumeId}': ${device.path} is still in use${by}; end the processes and mounts that use it, then repeat the call`,
  );
}

/**
 * Keeps the devices of a staged volume attached, even if another process requested their detach, and limited. Throws `busy` if one
 * was just detached.
 */
export async function keepStagedAttached(
  domain: Domain,
  volume: FoundVolume,
  { readWrite, readOnly }: Attachment,
): Promise<void> {
  const { id, kind } = volume.record;
  await requireLimitsApplicable(domain, `volume '${id}'`, volume.record.limits);
  for (const device of [readWrite, readOnly]) {
    if (device === undefined) continue;
    await limitDevice(domain, volume, device);
    const isKept =
      kind === 'block'
        ? await keepOpen(domain, volume, device)
        : !device.autoclear || (await domain.host.loops.clearAutoclear(device));
    if (isKept) continue;
    throw new VolumeError(
      'busy',
      `volume '${id}': another process just detached ${device.path}; repeat the call`,
    );
  }
}

/** Updates the size of a device that is smaller than its volume to the size of the image. */
export async function ensureDeviceSize(
  domain: Domain,
  device: LoopDevice,
  sizeBytes: bigint,
): Promise<void> {
  if (device.sizeBytes < sizeBytes) await domain.host.loops.refreshSize(device);
}
