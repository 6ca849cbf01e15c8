import { messageOf } from '../../errors.ts';
import type { Host, LoopDevice } from '../../host/host.ts';
import { isSameFile } from '../../host/loop/status.ts';
import type { Logger } from '../../observe/log.ts';
import { inLane } from '../engine/lanes.ts';

export interface OpenDevice {
  readonly device: LoopDevice;
  /** The id by which calls name the volume (`callIdOf`). */
  readonly volumeId: string;
  /** The pool's name. */
  readonly pool: string;
}

/**
 * Loop devices that the driver keeps open. A mounted filesystem keeps its device attached, but a bound device node does not: after
 * LOOP_CLR_FD by another process (`losetup --detach`) the next image could get the number of the device and appear at the target.
 * Therefore the driver keeps the devices of staged block volumes open, and those of other volumes from attach to mount (ADR 0008).
 */
export class OpenDevices {
  readonly #byNumber = new Map<number, OpenDevice>();
  readonly #deps: { readonly host: Host; readonly log: Logger };

  constructor(deps: { host: Host; log: Logger }) {
    this.#deps = deps;
  }

  /** Opens the device. Returns whether it is still attached to that image; if so, it stays attached until `close` or its detach. */
  async open(host: Host, { device, volumeId, pool }: OpenDevice): Promise<boolean> {
    const isAttached = await host.loops.hold(device);
    if (isAttached) this.add({ device, volumeId, pool });
    return isAttached;
  }

  /** Adds a device that was opened when it was attached. */
  add(open: OpenDevice): void {
    this.#byNumber.set(open.device.number, open);
  }

  async close(host: Host, device: LoopDevice): Promise<void> {
    this.forget(device);
    await host.loops.release(device);
  }

  /** Removes a device that was detached, and is therefore closed. */
  forget({ number, backing }: LoopDevice): void {
    const open = this.at(number);
    if (open !== undefined && isSameFile(open.device.backing, backing)) {
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
    for (const { device, volumeId, pool } of this.all) {
      const { host, log } = inLane(this.#deps, { kind: 'device', id: volumeId, pool });
      try {
        await host.loops.clearAutoclear(device);
        await this.close(host, device);
      } catch (error) {
        const problem = messageOf(error);
        log.warn({ volumeId, device: device.path, problem }, 'a device could not be closed');
      }
    }
  }
}
