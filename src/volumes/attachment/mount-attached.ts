import type { LoopDevice } from '../../host/host.ts';
import type { Domain } from '../domain.ts';

/** Mounts a device that `ensureAttached` answered, which is held until it is mounted: then its mount keeps it attached. */
export async function mountAttached(
  domain: Domain,
  device: LoopDevice,
  mount: () => Promise<void>,
): Promise<void> {
  try {
    await mount();
    await domain.host.loops.keep(device);
  } finally {
    await domain.openDevices.close(device);
  }
}
