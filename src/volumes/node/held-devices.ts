import type { LoopDevice } from '../../host/host.ts';
import type { Domain } from '../domain.ts';

/** Answers whether the device is still attached to that image: then it stays so until `letGoOf`, or its detach. */
export async function hold(domain: Domain, device: LoopDevice, volumeId: string): Promise<boolean> {
  const isAttached = await domain.host.loops.hold(device);
  if (isAttached) domain.held.set(device.number, { device, volumeId });
  return isAttached;
}

export async function letGoOf(domain: Domain, device: LoopDevice): Promise<void> {
  forgetHeld(domain, device);
  await domain.host.loops.release(device);
}

/** What is detached is held no more. */
export function forgetHeld(domain: Domain, { number, backing }: LoopDevice): void {
  const held = domain.held.get(number)?.device.backing;
  if (held?.device === backing.device && held.inode === backing.inode) domain.held.delete(number);
}

/** At the driver's end: the devices stay attached, also those that somebody has asked to be detached. */
export async function letGoOfAll(domain: Domain): Promise<void> {
  for (const { device, volumeId } of [...domain.held.values()]) {
    await domain.ownedBy(`device ${volumeId}`, async () => {
      try {
        await domain.host.loops.keep(device);
        await letGoOf(domain, device);
      } catch (err) {
        domain.log.warn({ volumeId, device: device.path, err }, 'a device could not be let go of');
      }
    });
  }
}
