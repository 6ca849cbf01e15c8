import type { LoopDevice } from '../host/host.ts';

/**
 * A mounted filesystem keeps its device, a bound node does not: anybody's LOOP_CLR_FD (`losetup --detach`) would take it away,
 * and the next image would get its number and be seen at the target. So the driver itself keeps the devices of staged block
 * volumes open, and those of others from their attach to their mount.
 */
export interface HeldDevice {
  readonly device: LoopDevice;
  readonly volumeId: string;
}
