import { messageOf, VolumeError } from '../../errors.ts';
import type { LoopDevice } from '../../host/host.ts';
import type { Domain } from '../domain.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { attachmentOfDevices } from './attachment.ts';
import { volumeAttachedTo } from './device-owner.ts';

/**
 * How often held devices are looked at, a file in memory for each, and after how many looks those that a mount keeps are too. What
 * a killed driver can lose is what was asked for since its last look.
 */
const lookMs = 100;
const looksForAll = 50;

/**
 * Takes back what others asked to be detached while it is in use (AUTOCLEAR), again and again: a device that only the driver
 * keeps open would go with the driver.
 */
export function watchDevices(domain: Domain): () => void {
  let looks = 0;
  let isLooking = false;
  const timer = setInterval(() => {
    looks += 1;
    const isForAll = looks % looksForAll === 0;
    if (isLooking || (domain.openDevices.size === 0 && !isForAll)) return;
    isLooking = true;
    (isForAll ? keepAllAttached(domain) : keepOpenAttached(domain))
      .catch((err: unknown) => {
        domain.log.error({ err }, 'looking at loop devices failed');
      })
      .finally(() => {
        isLooking = false;
      });
  }, lookMs);
  timer.unref();
  return () => {
    clearInterval(timer);
  };
}

/** Of the devices that only the driver keeps open. */
async function keepOpenAttached(domain: Domain): Promise<void> {
  for (const { device, volumeId } of domain.openDevices.all) {
    if (!domain.host.loops.isAutoclear(device)) continue;
    await keepAttached(domain, volumeId, device, async () => true);
  }
}

export async function keepAllAttached(domain: Domain): Promise<void> {
  await domain.ownedBy('loop devices', async () => {
    for (const device of await domain.host.loops.listAutoclear()) {
      const open = domain.openDevices.at(device.number);
      if (open !== undefined) {
        await keepAttached(domain, open.volumeId, device, async () => true);
        continue;
      }
      const volume = await volumeAttachedTo(domain, device);
      if (volume === undefined) continue;
      // Calls know an inline volume by the kubelet's id.
      const { id, name } = volume.record;
      const volumeId = volume.area === 'ephemeral' ? name : id;
      await keepAttached(domain, volumeId, device, () => isMounted(domain, volume, device));
    }
  });
}

async function isMounted(
  domain: Domain,
  volume: FoundVolume,
  device: LoopDevice,
): Promise<boolean> {
  return (await attachmentOfDevices(domain, [device], { volume })).mounts.length > 0;
}

/** Leaves alone what a call is at: it may be detaching the device. */
export async function keepAttached(
  domain: Domain,
  volumeId: string,
  device: LoopDevice,
  isInUse: () => Promise<boolean>,
): Promise<void> {
  const giveBack = tryLock(domain, volumeId);
  if (giveBack === undefined) return;
  try {
    await domain.ownedBy(`device ${volumeId}`, async () => {
      if (!(await isInUse()) || !(await domain.host.loops.keep(device))) return;
      domain.log.warn(
        { volumeId, device: device.path },
        'somebody asked for the end of a device in use; it stays attached',
      );
    });
  } catch (error) {
    const problem = messageOf(error);
    domain.log.warn({ volumeId, device: device.path, problem }, 'a device could not be kept');
  } finally {
    giveBack();
  }
}

function tryLock(domain: Domain, volumeId: string): (() => void) | undefined {
  try {
    return domain.operations.locks.take({ exclusive: [`volume:${volumeId}`] }, 'a look');
  } catch (error) {
    if (error instanceof VolumeError) return undefined;
    throw error;
  }
}
