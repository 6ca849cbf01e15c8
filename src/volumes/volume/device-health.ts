import type { LoopDevice } from '../../host/host.ts';
import { isLabelled } from '../../host/loop/status.ts';
import type { Attachment } from '../attachment/attachment.ts';
import { lostDeviceMessage, targetsOf } from '../attachment/mount-errors.ts';
import { cancelDetach } from '../attachment/watch-devices.ts';
import type { Domain } from '../domain.ts';
import type { VolumeCondition } from '../model.ts';
import { callIdOf } from '../pool/contents.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { condition } from './conditions.ts';

/**
 * Returns the conditions of a volume's loop devices. If another process has requested the detach of a device in use (AUTOCLEAR),
 * the device is kept attached.
 */
export async function deviceConditions(
  domain: Domain,
  volume: FoundVolume,
  attachment: Attachment,
): Promise<VolumeCondition[]> {
  await keepDevicesInUse(domain, volume, attachment);
  return [
    ...lostConditions(attachment),
    ...attachedTwice(attachment),
    ...bufferedIo(volume, attachment),
  ];
}

async function keepDevicesInUse(
  domain: Domain,
  volume: FoundVolume,
  { devices, mounts }: Attachment,
): Promise<void> {
  if (mounts.length === 0) return;
  const [volumeId, pool] = [callIdOf(volume), volume.pool.name];
  for (const device of devices) {
    if (!device.autoclear) continue;
    await cancelDetach(domain, { volumeId, pool, device }, async () => true);
  }
}

function lostConditions({ lost }: Attachment): VolumeCondition[] {
  if (lost.length === 0) return [];
  const message = lostDeviceMessage(targetsOf(lost));
  return [condition('INACCESSIBLE', 'DeviceLost', message)];
}

function attachedTwice({ devices, readWrite }: Attachment): VolumeCondition[] {
  const writers = devices.filter(({ readOnly }) => !readOnly);
  const other = writers.find((device) => device !== readWrite);
  if (other === undefined) return [];
  const paths = writers.map(({ path }) => path).join(', ');
  const message = `its image is attached to ${paths}, and writes through more than one device corrupt it; stop the programs that use ${other.path}, then run 'losetup --detach ${other.path}'`;
  return [condition('DEGRADED', 'AttachedTwice', message)];
}

function bufferedIo(volume: FoundVolume, { readWrite: device }: Attachment): VolumeCondition[] {
  const { record } = volume;
  if (device === undefined || !record.directIo || device.directIo) return [];
  const message = `${device.path} does not use direct I/O: ${bufferedReason(volume, device)}; data is cached twice`;
  return [condition('DEGRADED', 'BufferedIo', message)];
}

function bufferedReason({ record, pool }: FoundVolume, device: LoopDevice): string {
  if (!isLabelled(device)) return 'another program attached it, not this driver';
  if (pool.abilities?.directIo === false) return "the pool's filesystem does not support it";
  return `the pool's filesystem refuses it for ${record.sectorSize}-byte sectors`;
}
