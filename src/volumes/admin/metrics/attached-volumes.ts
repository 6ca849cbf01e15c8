import type { FileIdentity, IoCounters, LoopDevice, Mount } from '../../../host/host.ts';
import { isLabelled, isOnImage } from '../../../host/loop/status.ts';
import { nodeBindOf } from '../../../host/mount/loop-mounts.ts';
import { poolEntryAt } from '../../attachment/device-owner.ts';
import { isOfOtherNode } from '../../attachment/foreign-device.ts';
import type { Domain } from '../../domain.ts';
import { inLane } from '../../engine/lanes.ts';
import { volumeLock } from '../../engine/locks.ts';

interface DeviceWithIo {
  readonly device: LoopDevice;
  readonly io: IoCounters;
}

/** The loop devices and mounts of the machine, read once for a scrape and indexed for lookups of many volumes. */
export class AttachedDevices {
  readonly #byImage = new Map<string, DeviceWithIo>();
  /** Targets of mounted filesystems, by `major:minor` and by source: btrfs has anonymous device numbers. */
  readonly #targets = new Map<string, string>();
  readonly #boundNumbers = new Set<number>();
  readonly #all: readonly DeviceWithIo[];

  private constructor(devices: readonly DeviceWithIo[], mounts: readonly Mount[]) {
    this.#all = devices;
    for (const one of devices) {
      const key = keyOf(one.device.backing);
      const other = this.#byImage.get(key);
      // The counters of a read-only device would hide those of the writers.
      if (other === undefined || other.device.readOnly) this.#byImage.set(key, one);
    }
    for (const mount of mounts) {
      const bind = nodeBindOf(mount);
      if (bind !== undefined) this.#boundNumbers.add(bind.number);
      this.#targets.set(mount.majorMinor, mount.target);
      if (mount.fsType === 'btrfs') this.#targets.set(mount.source, mount.target);
    }
  }

  static async read(domain: Domain): Promise<AttachedDevices> {
    const { host } = inLane(domain, { kind: 'devices', id: 'metrics' });
    const [devices, mounts] = await Promise.all([host.loops.listWithIo(), host.mounts.list()]);
    return new AttachedDevices(devices, mounts);
  }

  /** The device of an image: the read-write one if there are several. */
  of(image: FileIdentity | undefined): DeviceWithIo | undefined {
    return image === undefined ? undefined : this.#byImage.get(keyOf(image));
  }

  /** Where the filesystem on the device is mounted; undefined if it is not. */
  targetOf({ majorMinor, path }: LoopDevice): string | undefined {
    return this.#targets.get(majorMinor) ?? this.#targets.get(path);
  }

  /** Whether a mount shows that the device is in use, or the driver keeps it open for a staged block volume. */
  #isUsed(domain: Domain, device: LoopDevice): boolean {
    return (
      this.targetOf(device) !== undefined ||
      this.#boundNumbers.has(device.number) ||
      domain.openDevices.at(device.number) !== undefined
    );
  }

  /**
   * Counts the driver's devices that are not mounted and belong to no call: left over by a crash, or by other software. Devices
   * of other drivers on this machine are not counted, even if their pools have the same paths in other mount namespaces. `images`
   * are those of the volumes, by id.
   */
  async countLeftovers(domain: Domain, images: ReadonlyMap<string, FileIdentity>): Promise<number> {
    const { host } = inLane(domain, { kind: 'devices', id: 'metrics' });
    let count = 0;
    for (const { device } of this.#all) {
      if (!isLabelled(device) || this.#isUsed(domain, device)) continue;
      const entry = poolEntryAt(domain.pools.all, (await host.loops.backingPath(device)) ?? '');
      if (entry === undefined) continue;
      const image = images.get(entry.entry);
      if (image !== undefined && !isOnImage(device, image)) continue;
      if (domain.pools.served.some((pool) => isOfOtherNode(device, pool))) continue;
      const { locks, runningCount } = domain.operations;
      const isBusy =
        entry.area === 'volumes'
          ? locks.lockedBy(volumeLock(entry.entry)) !== undefined
          : runningCount > 0;
      if (!isBusy) count += 1;
    }
    return count;
  }
}

function keyOf({ device, inode }: FileIdentity): string {
  return `${device} ${inode}`;
}
