import { lstat } from 'node:fs/promises';
import { relative } from 'node:path';
import { hasErrno, KernelError } from '../../src/host/errors.ts';
import type { FsType, LoopDevice, Mount, Mounts, TargetOptions } from '../../src/host/host.ts';
import { driverLane } from '../../src/host/lane.ts';
import { resolveParents } from '../../src/host/mount/mountinfo.ts';
import { splitMountOptions } from '../../src/host/mount/options.ts';
import { makeTarget, removeTarget, withParent, withTarget } from '../../src/host/mount/target.ts';
import type { FakeDevice, FakeKernel, FakeMount } from './fake-kernel.ts';
import { changeFakeSuperblock, readFakeSuperblock } from './fake-superblock.ts';

const nodePath = /^\/dev\/loop(\d+)$/;

/** The mount table in memory, with the rules of the kernel as observed. Paths are checked on the real filesystem. */
export class FakeMounts implements Mounts {
  readonly #kernel: FakeKernel;

  constructor(kernel: FakeKernel) {
    this.#kernel = kernel;
  }

  async list(): Promise<readonly Mount[]> {
    return this.#kernel.mounts.map((mount) => this.#show(mount));
  }

  async at(target: string): Promise<Mount | undefined> {
    const found = await this.#find(target);
    return found === undefined ? undefined : this.#show(found);
  }

  async mountDevice(
    path: string,
    target: string,
    options: { fsType: FsType; options: readonly string[] } & TargetOptions,
  ): Promise<void> {
    const subject = `${path} on ${target}`;
    const { flags, data } = splitMountOptions(options.options);
    const real = await resolve(target, { ...options, kind: 'directory' });
    const device = this.#deviceAt(path);
    if (device === undefined) throw new KernelError('mount', 'EINVAL', subject);
    const readOnly = (flags & 1) !== 0;
    await this.#activate(device, { subject, readOnly, fsType: options.fsType, data });
    if (this.#kernel.mounts.findLast((mount) => mount.target === real)?.device === device.number) {
      throw new KernelError('mount', 'EBUSY', subject);
    }
    this.#add(real, {
      majorMinor: `7:${device.number}`,
      root: '/',
      options: [readOnly ? 'ro' : 'rw'],
      fsType: options.fsType,
      source: path,
      device: device.number,
    });
  }

  async bind(
    source: string,
    target: string,
    options: Parameters<Mounts['bind']>[2],
  ): Promise<void> {
    const node = this.#deviceAt(source);
    const isNode = nodePath.test(source);
    if (isNode && node === undefined) throw new KernelError('open_tree', 'ENOENT', source);
    const isDirectory = isNode ? false : await directoryOrThrow(source);
    const real = await resolve(target, { ...options, kind: isDirectory ? 'directory' : 'file' });
    this.#add(real, {
      ...(isNode ? nodeOrigin(source) : await this.#origin(source)),
      options: [
        options.readOnly ? 'ro' : 'rw',
        ...(options.noSuid === true ? ['nosuid'] : []),
        ...(options.noDev === true ? ['nodev'] : []),
        ...(options.noExec === true ? ['noexec'] : []),
      ],
    });
  }

  async unmount(...[target, options = {}]: Parameters<Mounts['unmount']>): Promise<void> {
    const found = await this.#find(target);
    if (found === undefined) return;
    await withParent(driverLane, target, options, () => Promise.resolve());
    const { mounts } = this.#kernel;
    const isBelow = (mount: FakeMount) => mount.target.startsWith(`${found.target}/`);
    if (found.openFiles > 0 || mounts.some(isBelow))
      throw new KernelError('umount', 'EBUSY', target);
    mounts.splice(mounts.indexOf(found), 1);
    const device = found.device === undefined ? undefined : this.#kernel.devices.get(found.device);
    if (device === undefined) return;
    const isLast = this.#kernel.mountsOf(device).length === 0;
    if (isLast && options.keepFrozen !== true && device.live !== undefined)
      device.live.frozen = false;
    this.#kernel.detachIfUnused(device);
  }

  async makeTarget(
    target: string,
    kind: 'directory' | 'file',
    options: TargetOptions = {},
  ): Promise<void> {
    await makeTarget(driverLane, target, kind, options);
  }

  async removeTarget(target: string, options: TargetOptions = {}): Promise<void> {
    if ((await this.#find(target)) !== undefined) throw new KernelError('rmdir', 'EBUSY', target);
    await removeTarget(driverLane, target, options);
  }

  async syncFilesystem(target: string): Promise<void> {
    await directoryOrThrow(target);
  }

  async trim(
    target: string,
    device: LoopDevice,
    { offset }: Parameters<Mounts['trim']>[2],
  ): Promise<bigint | undefined> {
    const found = await this.#mounted(target, device);
    if (!found.discard) throw new KernelError('FITRIM', 'EOPNOTSUPP', target);
    return offset >= found.sizeBytes ? undefined : 0n;
  }

  async thaw(target: string, device: LoopDevice): Promise<boolean> {
    const { live } = await this.#mounted(target, device);
    const was = live?.frozen === true;
    if (live !== undefined) live.frozen = false;
    return was;
  }

  async thawWithoutMount(device: LoopDevice, fsType: FsType): Promise<boolean> {
    const found = this.#kernel.find(device);
    if (found === undefined) throw new KernelError('fsconfig', 'EINVAL', device.path);
    if (found.live === undefined) {
      if (found.usedElsewhere) throw new KernelError('fsconfig', 'EBUSY', device.path);
      return false;
    }
    if (found.live.fsType !== fsType) throw new KernelError('fsconfig', 'EINVAL', device.path);
    const was = found.live.frozen;
    found.live.frozen = false;
    if (was) this.#kernel.detachIfUnused(found);
    return was;
  }

  /** The device whose filesystem is mounted at `target`; KernelError ENODEV when that is not `device`. */
  async #mounted(target: string, device: LoopDevice): Promise<FakeDevice> {
    await directoryOrThrow(target);
    const found = this.#kernel.find(device);
    const mount = await this.#find(target);
    if (found === undefined || mount?.device !== found.number || found.live === undefined) {
      throw new KernelError('open', 'ENODEV', `${target}: not the filesystem of ${device.path}`);
    }
    return found;
  }

  /** Reads the superblock and activates the filesystem, or checks that it is the active one. */
  async #activate(
    device: FakeDevice,
    {
      subject,
      readOnly,
      fsType,
      data,
    }: { subject: string; readOnly: boolean; fsType: FsType; data: string },
  ): Promise<void> {
    const image = `/proc/self/fd/${device.imageFd}`;
    const superblock = await readFakeSuperblock(image);
    if (superblock?.fsType !== fsType || superblock.sizeBytes > device.sizeBytes) {
      throw new KernelError('mount', 'EINVAL', subject);
    }
    if (superblock.damage === 'beyond') throw new KernelError('mount', 'EUCLEAN', subject);
    if (device.live !== undefined) {
      if (device.live.readOnly !== readOnly) throw new KernelError('mount', 'EBUSY', subject);
      return;
    }
    if (superblock.isInterrupted) throw new Error(`${subject}: it has an interrupted change`);
    if (device.readOnly && !readOnly) throw new KernelError('mount', 'EACCES', subject);
    const mountedXfs = [...this.#kernel.devices.values()].filter(
      (other) => other.live?.fsType === 'xfs',
    );
    if (fsType === 'xfs' && !data.split(',').includes('nouuid')) {
      for (const mounted of mountedXfs) {
        const other = await readFakeSuperblock(`/proc/self/fd/${mounted.imageFd}`);
        if (other?.uuid === superblock.uuid) throw new KernelError('mount', 'EINVAL', subject);
      }
    }
    if (superblock.state === 'needs-replay' && !device.readOnly) {
      await changeFakeSuperblock(image, { state: 'clean' });
    }
    device.live = {
      frozen: false,
      fsType,
      readOnly,
      superOptions: [readOnly ? 'ro' : 'rw', ...data.split(',').filter(Boolean)],
    };
  }

  #deviceAt(path: string): FakeDevice | undefined {
    const number = nodePath.exec(path)?.[1];
    return number === undefined ? undefined : this.#kernel.devices.get(Number(number));
  }

  async #find(target: string): Promise<FakeMount | undefined> {
    const real = await resolveParents(driverLane, target);
    return this.#kernel.mounts.findLast((mount) => mount.target === real);
  }

  /** The mount that contains a directory, for a bind of it. */
  async #origin(
    source: string,
  ): Promise<Omit<FakeMount, 'id' | 'parentId' | 'target' | 'options' | 'openFiles'>> {
    const real = (await resolveParents(driverLane, source)) ?? source;
    const covering = this.#kernel.mounts
      .filter(({ target }) => real === target || real.startsWith(`${target}/`))
      .reduce<FakeMount | undefined>(
        (best, one) => (best === undefined || one.target.length >= best.target.length ? one : best),
        undefined,
      );
    if (covering === undefined) {
      return {
        majorMinor: '254:0',
        root: real,
        fsType: 'ext4',
        source: '/dev/root',
        device: undefined,
      };
    }
    const below = relative(covering.target, real);
    const { majorMinor, fsType, source: origin, device, root } = covering;
    return {
      majorMinor,
      fsType,
      source: origin,
      device,
      root: below === '' ? root : `${root === '/' ? '' : root}/${below}`,
    };
  }

  #add(target: string, mount: Omit<FakeMount, 'id' | 'parentId' | 'target' | 'openFiles'>): void {
    const id = this.#kernel.nextMountId();
    this.#kernel.mounts.push({ ...mount, id, parentId: 1, target, openFiles: 0 });
  }

  #show(mount: FakeMount): Mount {
    const { id, parentId, majorMinor, root, target, options, fsType, source, device } = mount;
    const live = device === undefined ? undefined : this.#kernel.devices.get(device)?.live;
    const superOptions = live?.superOptions ?? ['rw'];
    return { id, parentId, majorMinor, root, target, options, fsType, source, superOptions };
  }
}

function nodeOrigin(source: string) {
  const root = source.slice('/dev'.length);
  return {
    majorMinor: '0:6',
    root,
    fsType: 'devtmpfs',
    source: 'devtmpfs',
    device: undefined,
  } as const;
}

/**
 * Opens the target as the real calls do, so that symlinks and wrong kinds are refused in the same way. Returns its real
 * path.
 */
async function resolve(
  target: string,
  options: TargetOptions & { kind: 'directory' | 'file' },
): Promise<string> {
  await withTarget(driverLane, target, options, () => Promise.resolve());
  return (await resolveParents(driverLane, target)) ?? target;
}

async function directoryOrThrow(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isDirectory();
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) throw new KernelError('open', 'ENOENT', path);
    throw error;
  }
}
