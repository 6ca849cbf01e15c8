import { KernelError } from '../../src/host/errors.ts';
import type { DeviceLimits, IoLimits, PodsCgroup } from '../../src/host/host.ts';
import { hasLimits } from '../../src/host/loop/io-limits.ts';

/** A node with cgroup v1. */
export const cgroupV1: PodsCgroup = {
  problem: '/sys/fs/cgroup is not a directory of cgroup v2',
  remedy: 'boot the node with cgroup v2',
};

/** `io.max` in memory. Like the kernel, it keeps limits for a number, whichever image is attached. */
export class FakeDeviceLimits implements DeviceLimits {
  cgroup: PodsCgroup = { path: '/sys/fs/cgroup/kubepods.slice' };
  readonly devices = new Map<string, IoLimits>();

  async findCgroup(): Promise<PodsCgroup> {
    return this.cgroup;
  }

  async list(): Promise<ReadonlyMap<string, IoLimits>> {
    return new Map(this.devices);
  }

  async set(majorMinor: string, limits: IoLimits): Promise<void> {
    if (!hasLimits(limits)) this.devices.delete(majorMinor);
    else if ('path' in this.cgroup) this.devices.set(majorMinor, limits);
    else throw new KernelError('write io.max', 'ENOENT', this.cgroup.problem);
  }
}
