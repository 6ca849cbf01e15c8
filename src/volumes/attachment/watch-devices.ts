import { callPeriodically } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import type { LoopDevice } from '../../host/host.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import { volumeLock } from '../engine/locks.ts';
import type { OpenDevice } from '../jobs/open-devices.ts';
import { callIdOf } from '../pool/contents.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { attachmentOfDevices } from './attachment.ts';
import { deviceLaneOf, volumeAttachedTo } from './device-owner.ts';

/**
 * Interval of the checks of open devices, which read one sysfs file each, and the number of checks after which all devices are
 * checked, mounted ones too. If the driver is killed, only a detach that was requested since its last check takes effect.
 */
const checkIntervalMs = 100;
const checksPerFullCheck = 50;

/**
 * Periodically cancels detaches (AUTOCLEAR) that other processes requested for devices in use: the kernel would detach a device
 * that only the driver keeps open as soon as the driver ends.
 */
export function watchDevices(domain: Domain): () => void {
  let checks = 0;
  const check = async (): Promise<number> => {
    checks += 1;
    const isForAll = checks % checksPerFullCheck === 0;
    try {
      if (isForAll) await cancelAllDetaches(domain);
      else await cancelDetachesOfOpenDevices(domain);
    } catch (err) {
      domain.log.error({ err }, 'a check of the loop devices failed');
    }
    return checkIntervalMs;
  };
  return callPeriodically(check, checkIntervalMs);
}

/** Cancels requested detaches of the devices that only the driver keeps open. */
async function cancelDetachesOfOpenDevices(domain: Domain): Promise<void> {
  for (const open of domain.openDevices.all) {
    if (!domain.host.loops.isAutoclear(open.device)) continue;
    await cancelDetach(domain, open, async () => true);
  }
}

/** Cancels requested detaches of all devices in use, including mounted ones. */
export async function cancelAllDetaches(domain: Domain): Promise<void> {
  const deps = inLane(domain, { kind: 'devices', id: 'all' });
  for (const device of await deps.host.loops.listAutoclear()) {
    const open = domain.openDevices.at(device.number);
    if (open !== undefined) {
      await cancelDetach(domain, { ...open, device }, async () => true);
      continue;
    }
    const volume = await volumeAttachedTo(deps, device, (volume) =>
      inLane(domain, deviceLaneOf(volume)),
    );
    if (volume === undefined) continue;
    const used = { volumeId: callIdOf(volume), pool: volume.pool.name, device };
    await cancelDetach(domain, used, (domain) => isMounted(domain, volume, device));
  }
}

async function isMounted(
  domain: Domain,
  volume: FoundVolume,
  device: LoopDevice,
): Promise<boolean> {
  return (await attachmentOfDevices(domain, [device], { volume })).mounts.length > 0;
}

/** Skips a volume that a call has locked: that call may be detaching the device. */
export async function cancelDetach(
  domain: Domain,
  { volumeId, pool, device }: OpenDevice,
  isInUse: (domain: Domain) => Promise<boolean>,
): Promise<void> {
  const unlock = domain.operations.locks.acquireForCheck(
    { exclusive: [volumeLock(volumeId)] },
    'a check of its devices',
  );
  if (unlock === undefined) return;
  try {
    const deps = inLane(domain, { kind: 'device', id: volumeId, pool });
    if (!(await isInUse(deps))) return;
    if (!(await deps.host.loops.clearAutoclear(device))) return;
    domain.log.warn(
      { volumeId, device: device.path },
      'the detach of a device in use was cancelled; another process had requested it',
    );
  } catch (error) {
    const problem = messageOf(error);
    domain.log.warn(
      { volumeId, device: device.path, problem },
      'the detach of a device in use could not be cancelled',
    );
  } finally {
    unlock();
  }
}
