import { driverLane } from '../../src/host/lane.ts';
import { resolveParents } from '../../src/host/mount/mountinfo.ts';
import type { FakeDevice, FakeKernel } from './fake-kernel.ts';
import type { OtherSoftware, StopUse } from './other-software.ts';

/** Actions of other software on a node in memory. */
export class FakeOtherSoftware implements OtherSoftware {
  readonly #kernel: FakeKernel;

  constructor(kernel: FakeKernel) {
    this.#kernel = kernel;
  }

  async openDevice(number: number): Promise<StopUse> {
    const close = this.#kernel.open(this.#device(number));
    return async () => {
      close();
    };
  }

  async clearDevice(number: number): Promise<void> {
    this.#kernel.clear(this.#device(number));
  }

  async attach(imagePath: string): Promise<number> {
    const options = { readOnly: false, directIo: false, discard: true, sectorSize: 512 };
    const others = { label: imagePath, autoclear: false, held: false };
    return this.#kernel.attach(imagePath, { ...options, ...others }).number;
  }

  async openFile(path: string): Promise<StopUse> {
    const real = await resolveParents(driverLane, path);
    const mount = this.#kernel.mounts.findLast((one) => one.target === real);
    if (mount === undefined) throw new Error(`nothing is mounted at ${path}`);
    // For a bound node, the node itself is opened.
    const device =
      mount.device === undefined ? this.#kernel.deviceShownAt(mount.target) : undefined;
    const close = device === undefined ? undefined : this.#kernel.open(device);
    mount.openFiles += 1;
    let isOpen = true;
    return async () => {
      if (!isOpen) return;
      isOpen = false;
      mount.openFiles -= 1;
      close?.();
    };
  }

  async mountElsewhere(target: string): Promise<StopUse> {
    const device = this.#kernel.deviceShownAt(target);
    if (device?.live === undefined) throw new Error(`no filesystem is mounted at ${target}`);
    device.usedElsewhere = true;
    return async () => {
      device.usedElsewhere = false;
      this.#kernel.detachIfUnused(device);
    };
  }

  #device(number: number): FakeDevice {
    const device = this.#kernel.devices.get(number);
    if (device === undefined) throw new Error(`loop${number} is not attached`);
    return device;
  }
}
