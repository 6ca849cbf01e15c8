import { setTimeout as delay } from 'node:timers/promises';
import { KernelError } from '../../src/host/errors.ts';
import { makeFiles } from '../../src/host/files/files.ts';
import { measureTree } from '../../src/host/files/measure-tree.ts';
import {
  type Diagnostics,
  type Freezer,
  type FsType,
  fsTypes,
  type Host,
  type MountUsers,
  type NodeFacts,
  type RunningProgram,
  type Trees,
} from '../../src/host/host.ts';
import { driverLane, type Lane } from '../../src/host/lane.ts';
import { FakeBlocks } from './fake-copies.ts';
import { FakeDeviceLimits } from './fake-device-limits.ts';
import { makeFakeFilesystems } from './fake-filesystems.ts';
import { type FakeDevice, FakeKernel } from './fake-kernel.ts';
import { makeFakeLoops } from './fake-loops.ts';
import { FakeMounts } from './fake-mounts.ts';
import { FakeOtherSoftware } from './fake-other-software.ts';
import { FakePrograms } from './fake-programs.ts';
import { changeFakeSuperblock, type FakeSuperblock } from './fake-superblock.ts';
import type { OtherSoftware } from './other-software.ts';
import { Watch } from './watch-calls.ts';

export interface FakeHostOptions {
  /** Whether files of the pool can share blocks. */
  readonly reflink?: boolean;
  /** Whether the filesystem of the pool supports direct I/O. */
  readonly directIo?: boolean;
  readonly canGrowExt4Online?: boolean;
  readonly missingPrograms?: readonly string[];
  /** Filesystem types whose kernel module is loaded; by default all of the driver's. */
  readonly supportedFilesystems?: readonly string[];
  readonly diagnostics?: Partial<Diagnostics>;
}

/**
 * A node in memory for tests without root. Images are real sparse files in a directory of the test. Loop devices,
 * mounts and filesystems are tables, which survive a restart of the driver under test, as in the kernel. A file written
 * below the target of a mount is written to the directory itself: nothing is really mounted.
 */
export class FakeHost implements Host {
  readonly files;
  readonly loops;
  readonly deviceLimits;
  /** `io.max` of the node: limits by `7:N`, and whether there is a cgroup for them. */
  readonly ioMax = new FakeDeviceLimits();
  readonly mounts;
  readonly filesystems;
  readonly extents;
  readonly copies;
  readonly trees: Trees;
  readonly freezer: Freezer;
  readonly users: MountUsers;
  readonly facts: NodeFacts;
  readonly diagnostics: Diagnostics;
  readonly kernel = new FakeKernel();
  /** Actions of other software on this node. */
  readonly otherSoftware: OtherSoftware = new FakeOtherSoftware(this.kernel);
  /** Programs that run on images. */
  readonly programs = new FakePrograms();
  /** All calls in order: `mounts.bind` and its arguments. */
  readonly watch = new Watch();
  readonly lane: Lane = driverLane;
  readonly missing: readonly string[];
  readonly supported: ReadonlySet<string>;

  constructor(options: FakeHostOptions = {}) {
    const { kernel, watch } = this;
    this.facts = {
      canMount: true,
      canGrowExt4Online: options.canGrowExt4Online ?? true,
      kernelRelease: '6.18.0-fake',
    };
    this.diagnostics = {
      programVersions: async () => [],
      loopLimits: async () => {
        return { numbers: [], numbersBelow: 2 ** 20, maxLoop: 8, withoutNode: [] };
      },
      propagationOf: async () => ({ target: '/', isShared: true, isInFirstNamespace: true }),
      ...options.diagnostics,
    };
    this.missing = options.missingPrograms ?? [];
    this.supported = new Set(options.supportedFilesystems ?? fsTypes);
    const blocks = new FakeBlocks(options.reflink ?? false);
    const loops = makeFakeLoops(kernel, {
      directIo: options.directIo ?? true,
      limits: this.ioMax,
    });
    const mounts = new FakeMounts(kernel);
    const real = makeFakeFilesystems({
      kernel,
      loops,
      mounts,
      facts: this.facts,
      programs: this.programs,
    });
    this.files = watch.over('files', makeFiles(driverLane));
    this.loops = watch.over('loops', loops);
    this.deviceLimits = watch.over('deviceLimits', this.ioMax);
    this.mounts = watch.over('mounts', mounts);
    this.extents = watch.over('extents', blocks.extents);
    this.copies = watch.over('copies', blocks.copies);
    this.trees = watch.over('trees', makeFakeTrees());
    this.freezer = watch.over('freezer', makeFakeFreezer(kernel, mounts));
    this.users = watch.over('users', makeFakeUsers(kernel));
    this.filesystems = {
      ext4: watch.over('filesystems.ext4', real.ext4),
      xfs: watch.over('filesystems.xfs', real.xfs),
      btrfs: watch.over('filesystems.btrfs', real.btrfs),
    };
  }

  /** The same node; `lane` tells a test in which lane a call is made. Calls of the fake kernel never block. */
  inLane(lane: Lane): Host {
    return Object.create(this, { lane: { value: lane, enumerable: true } }) as Host;
  }

  async runningPrograms(): Promise<readonly RunningProgram[]> {
    return [];
  }

  async missingPrograms(): Promise<readonly string[]> {
    return this.missing;
  }

  async supportedFilesystems(): Promise<ReadonlySet<string>> {
    return this.supported;
  }

  /** Names of all calls so far, in order. */
  get calls(): readonly string[] {
    return this.watch.calls.map(({ name }) => name);
  }

  /**
   * Makes the next call of this name (`mounts.mountDevice`, `filesystems.ext4.make`) fail with `error`, before its
   * effect, or after it with `after`.
   */
  failNext(name: string, error: Error, options: { after?: boolean } = {}): void {
    this.watch.failNext(name, error, options);
  }

  /**
   * Makes the next call of this name hang until the returned function is called; then it runs. An iterator
   * (`extents.map`) cannot hang.
   */
  hangNext(name: string): () => void {
    return this.watch.hangNext(name);
  }

  /** Lets another mount namespace use the device, which cannot be detached until the returned function is called. */
  useElsewhere(number: number): () => void {
    const device = this.#attached(number);
    device.usedElsewhere = true;
    return () => {
      device.usedElsewhere = false;
      this.kernel.detachIfUnused(device);
    };
  }

  /** Detaches the device as other software can while no driver has it open. */
  loseDevice(number: number): void {
    const device = this.#attached(number);
    device.held = false;
    this.kernel.clear(device);
  }

  #attached(number: number): FakeDevice {
    const device = this.kernel.devices.get(number);
    if (device === undefined) throw new Error(`loop${number} is not attached`);
    return device;
  }

  /** Changes the superblock of an unattached image: its state, size or damage. */
  async changeImage(
    path: string,
    change: Partial<FakeSuperblock> & { fsType?: FsType },
  ): Promise<void> {
    await changeFakeSuperblock(path, change);
  }

  /**
   * Sets the superblock options in mountinfo of the filesystem mounted from this device, for example `emergency_ro`.
   */
  setSuperOptions(number: number, options: readonly string[]): void {
    const live = this.kernel.devices.get(number)?.live;
    if (live === undefined) throw new Error(`loop${number} has no mounted filesystem`);
    live.superOptions = options;
  }

  /** Reboots: nothing is mounted or attached any more; files stay. */
  reboot(): void {
    this.kernel.mounts.length = 0;
    for (const device of this.kernel.devices.values()) this.kernel.detach(device);
    this.ioMax.devices.clear();
  }
}

/** Measures real directories. Nothing is mounted, so a copy has no effect, and a comparison finds no difference. */
function makeFakeTrees(): Trees {
  return {
    measure: (path, signal) => measureTree(driverLane, path, signal),
    copyIntoImage: async () => undefined,
    findDifference: async () => undefined,
  };
}

/** Reports processes with an open file, but no other namespaces. */
function makeFakeUsers(kernel: FakeKernel): MountUsers {
  const user = { pid: 4711, command: 'holder' };
  const seen = (isWanted: (id: number, device: number | undefined) => boolean) =>
    kernel.mounts.some((one) => one.openFiles > 0 && isWanted(one.id, one.device)) ? [user] : [];
  return {
    ofMounts: async (mounts) => seen((id) => mounts.some((one) => one.id === id)),
    ofDevice: async ({ number }) => seen((_id, device) => device === number),
    // Nothing is ever stacked on a fake device.
    devicesAbove: async () => [],
  };
}

function makeFakeFreezer(kernel: FakeKernel, mounts: FakeMounts): Freezer {
  return {
    freeze: async (targets, { timeoutMs }) => {
      const frozen: (() => void)[] = [];
      const thawAll = () => {
        for (const thaw of frozen.splice(0)) thaw();
      };
      const startedAtMs = performance.now();
      for (const { target, device } of targets) {
        const live =
          (await mounts.at(target)) === undefined ? undefined : kernel.find(device)?.live;
        const mount = kernel.mounts.findLast((one) => one.target === target);
        if (live === undefined || mount?.device !== device.number || live.frozen) {
          thawAll();
          throw new KernelError('FIFREEZE', live?.frozen === true ? 'EBUSY' : 'ENODEV', target);
        }
        live.frozen = true;
        frozen.push(() => {
          live.frozen = false;
          // The target may have been unmounted meanwhile.
          const thawed = kernel.find(device);
          if (thawed?.live === live) kernel.detachIfUnused(thawed);
        });
      }
      let expired = false;
      const over = new AbortController();
      void delay(timeoutMs, undefined, { ref: false, signal: over.signal }).then(
        () => {
          expired = true;
          thawAll();
        },
        () => undefined,
      );
      let frozenMs: number | undefined;
      return {
        thaw: async () => {
          if (expired)
            throw new KernelError('freeze', 'ETIMEDOUT', 'thawed because the time limit passed');
          over.abort();
          thawAll();
          frozenMs ??= performance.now() - startedAtMs;
          return frozenMs;
        },
      };
    },
  };
}
