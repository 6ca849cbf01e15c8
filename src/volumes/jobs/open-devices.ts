import type { Host, LoopDevice } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import type { InLane } from '../engine/lanes.ts';

interface OpenDevice {
  readonly device: LoopDevice;
  readonly volumeId: string;
  /** The pool's name. */
  readonly pool: string;
}

/**
 * Loop devices that the driver keeps open. A mounted filesystem keeps its device attached, but a bound device node does not: after
 * LOOP_CLR_FD by another process (`losetup --detach`) the next image could get its number and appear at the target. So the driver
 * keeps the devices of staged block volumes open, and those of other volumes from attach to mount (ADR 0008).
 */
export class OpenDevices {
  readonly #byNumber = new Map<number, OpenDevice>();
  readonly #deps: { readonly host: Host; readonly log: Logger; readonly inLane: InLane };

  constructor(deps: { host: Host; log: Logger; inLane: InLane }) {
    this.#deps = deps;
  }

  /** Opens the device. Returns whether it is still attached to that image; it then stays attached until `close` or its detach. */
  async open(device: LoopDevice, volumeId: string, pool: string): Promise<boolean> {
    const isAttached = await this.#deps.host.loops.hold(device);
    if (isAttached) this.add(device, volumeId, pool);
    return isAttached;
  }

  /** Adds a device that was opened when it was attached. */
  add(device: LoopDevice, volumeId: string, pool: string): void {
    this.#byNumber.set(device.number, { device, volumeId, pool });
  }

  async close(device: LoopDevice): Promise<void> {
    this.forget(device);
    await this.#deps.host.loops.release(device);
  }

  /** Removes a device that was detached, and is therefore closed. */
  forget({ number, backing }: LoopDevice): void {
    const open = this.at(number)?.device.backing;
    if (open?.device === backing.device && open.inode === backing.inode) {
      this.#byNumber.delete(number);
    }
  }

  /** The open device with that number. */
  at(number: number): OpenDevice | undefined {
    return this.#byNumber.get(number);
  }

  get size(): number {
    return this.#byNumber.size;
  }

  get all(): readonly OpenDevice[] {
    return [...this.#byNumber.values()];
  }

  /** Closes all devices at shutdown. They stay attached, even if another process has requested their detach. */
  async closeAll(): Promise<void> {
    const { host, log, inLane } = this.#deps;
    for (const { device, volumeId, pool } of this.all) {
      await inLane({ kind: 'device', id: volumeId, pool }, async () => {
        try {
          await host.loops.clearAutoclear(device);
          await this.close(device);
        } catch (err) {
          log.warn({ volumeId, device: device.path, err }, 'a device could not be closed');
        }
      });
    }
  }
}
