import { setTimeout as delay } from 'node:timers/promises';
import { KernelError } from '../../src/host/errors.ts';
import { makeFiles } from '../../src/host/files/files.ts';
import type {
  Freezer,
  FsType,
  Host,
  MountUsers,
  NodeFacts,
  RunningProgram,
} from '../../src/host/host.ts';
import { FakeBlocks } from './fake-copies.ts';
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
  /** The pool can share blocks between files. */
  readonly reflink?: boolean;
  /** The pool's filesystem allows direct I/O on its files. */
  readonly directIo?: boolean;
  readonly canGrowExt4Online?: boolean;
  readonly missingPrograms?: readonly string[];
}

/**
 * A node in memory for tests without root: images are real, sparse files in a directory of the test's; loop devices,
 * mounts and filesystems are tables, which stay when the driver under test is made anew, as the kernel's do. What is
 * written below a mount's target lands in the directory beneath: nothing is really mounted.
 */
export class FakeHost implements Host {
  readonly files;
  readonly loops;
  readonly mounts;
  readonly filesystems;
  readonly extents;
  readonly copies;
  readonly freezer: Freezer;
  readonly users: MountUsers;
  readonly facts: NodeFacts;
  readonly kernel = new FakeKernel();
  /** What others do on this node. */
  readonly otherSoftware: OtherSoftware = new FakeOtherSoftware(this.kernel);
  /** What it runs on images. */
  readonly programs = new FakePrograms();
  /** Every call in order, `mounts.bind` and its arguments. */
  readonly watch = new Watch();
  readonly #missing: readonly string[];

  constructor(options: FakeHostOptions = {}) {
    const { kernel, watch } = this;
    this.facts = {
      canMount: true,
      canGrowExt4Online: options.canGrowExt4Online ?? true,
      kernelRelease: '6.18.0-fake',
    };
    this.#missing = options.missingPrograms ?? [];
    const blocks = new FakeBlocks(options.reflink ?? false);
    const loops = makeFakeLoops(kernel, { directIo: options.directIo ?? true });
    const mounts = new FakeMounts(kernel);
    const real = makeFakeFilesystems({
      kernel,
      loops,
      mounts,
      facts: this.facts,
      programs: this.programs,
    });
    this.files = watch.over('files', makeFiles());
    this.loops = watch.over('loops', loops);
    this.mounts = watch.over('mounts', mounts);
    this.extents = watch.over('extents', blocks.extents);
    this.copies = watch.over('copies', blocks.copies);
    this.freezer = watch.over('freezer', makeFakeFreezer(kernel, mounts));
    this.users = watch.over('users', makeFakeUsers(kernel));
    this.filesystems = {
      ext4: watch.over('filesystems.ext4', real.ext4),
      xfs: watch.over('filesystems.xfs', real.xfs),
      btrfs: watch.over('filesystems.btrfs', real.btrfs),
    };
  }

  async runningPrograms(): Promise<readonly RunningProgram[]> {
    return [];
  }

  async missingPrograms(): Promise<readonly string[]> {
    return this.#missing;
  }

  /** Names of the calls made so far, in order. */
  get calls(): readonly string[] {
    return this.watch.calls.map(({ name }) => name);
  }

  /**
   * The next call of that name (`mounts.mountDevice`, `filesystems.ext4.make`) fails with `error`: before it does anything,
   * or, with `after`, when it has done it all.
   */
  failNext(name: string, error: Error, options: { after?: boolean } = {}): void {
    this.watch.failNext(name, error, options);
  }

  /**
   * The next call of that name hangs until the answer is called; then it is made. What is iterated (`extents.map`) cannot
   * hang.
   */
  hangNext(name: string): () => void {
    return this.watch.hangNext(name);
  }

  /** Another mount namespace uses the device: it cannot be detached until the answer is called. */
  useElsewhere(number: number): () => void {
    const device = this.#attached(number);
    device.heldElsewhere = true;
    return () => {
      device.heldElsewhere = false;
      this.kernel.settle(device);
    };
  }

  /** Somebody detaches the device while no driver runs that holds it. */
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

  /** Changes what the superblock of an unattached image says: its state, its size, damage. */
  async changeImage(
    path: string,
    change: Partial<FakeSuperblock> & { fsType?: FsType },
  ): Promise<void> {
    await changeFakeSuperblock(path, change);
  }

  /** What mountinfo shows for the superblock mounted from that device, `emergency_ro` for one that broke off. */
  setSuperOptions(number: number, options: readonly string[]): void {
    const live = this.kernel.devices.get(number)?.live;
    if (live === undefined) throw new Error(`loop${number} has no mounted filesystem`);
    live.superOptions = options;
  }

  /** A reboot: nothing is mounted or attached any more; files stay. */
  reboot(): void {
    this.kernel.mounts.length = 0;
    for (const device of this.kernel.devices.values()) this.kernel.detach(device);
  }
}

/** Whoever has a file open is seen; other namespaces are not. */
function makeFakeUsers(kernel: FakeKernel): MountUsers {
  const user = { pid: 4711, command: 'holder' };
  const seen = (isWanted: (id: number, device: number | undefined) => boolean) =>
    kernel.mounts.some((one) => one.openFiles > 0 && isWanted(one.id, one.device)) ? [user] : [];
  return {
    ofMounts: async (mounts) => seen((id) => mounts.some((one) => one.id === id)),
    ofDevice: async ({ number }) => seen((_id, device) => device === number),
    // Nothing looks into a fake device, so nothing is made from one.
    devicesAbove: async () => [],
  };
}

function makeFakeFreezer(kernel: FakeKernel, mounts: FakeMounts): Freezer {
  return {
    freeze: async (targets, { boundMs }) => {
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
          // It may have been unmounted meanwhile.
          const thawed = kernel.find(device);
          if (thawed?.live === live) kernel.settle(thawed);
        });
      }
      let expired = false;
      const over = new AbortController();
      void delay(boundMs, undefined, { ref: false, signal: over.signal }).then(
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
            throw new KernelError('freeze', 'ETIMEDOUT', 'thawed when the bound had passed');
          over.abort();
          thawAll();
          frozenMs ??= performance.now() - startedAtMs;
          return frozenMs;
        },
      };
    },
  };
}
