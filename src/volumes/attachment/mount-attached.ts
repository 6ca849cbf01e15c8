import type { LoopDevice } from '../../host/host.ts';
import type { Domain } from '../domain.ts';

/** Mounts a device from `ensureAttached`, which the driver keeps open until then: afterwards the mount keeps it attached. */
export async function mountAttached(
  domain: Domain,
  device: LoopDevice,
  mount: () => Promise<void>,
): Promise<void> {
  try {
    await mount();
    await domain.host.loops.clearAutoclear(device);
  } finally {
    await domain.openDevices.close(device);
  }
}
