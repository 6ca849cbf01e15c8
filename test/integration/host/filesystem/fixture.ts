import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { makeFiles } from '../../../../src/host/files/files.ts';
import { Ext4State } from '../../../../src/host/filesystem/ext4/ext4.ts';
import { makeFilesystems } from '../../../../src/host/filesystem/filesystems.ts';
import type { FsType, LoopDevice, MakeOptions, SectorSize } from '../../../../src/host/host.ts';
import { driverLane } from '../../../../src/host/lane.ts';
import { CgroupState, makeDeviceLimits } from '../../../../src/host/loop/device-limits.ts';
import { LoopState, makeLoopDevices } from '../../../../src/host/loop/devices.ts';
import { makeMounts } from '../../../../src/host/mount/mounts.ts';
import { makeRun } from '../../../../src/host/programs/run.ts';

/** Real filesystems on real loop devices, in a scratch directory. */
export const files = makeFiles(driverLane);
export const loops = makeLoopDevices(
  driverLane,
  new LoopState(),
  makeDeviceLimits(driverLane, new CgroupState(undefined)),
);
export const mounts = makeMounts(driverLane);
export const run = makeRun();
export const filesystems = makeFilesystems(driverLane, {
  run,
  loops,
  mounts,
  ext4State: new Ext4State(),
  kernelRelease: release(),
});

/** A scratch directory, and the cleanup after the test, whatever its result. */
export class Fixture {
  readonly directory: string;
  readonly workDir: string;
  readonly #t: ExecutionContext;
  readonly #images = new Set<string>();
  readonly #targets = new Set<string>();
  #count = 0;

  constructor(t: ExecutionContext, directory: string) {
    this.#t = t;
    this.directory = directory;
    this.workDir = join(directory, 'work');
  }

  /** Makes an image with a filesystem, and returns its UUID. */
  async make(
    fsType: FsType,
    sizeBytes: bigint,
    options: Partial<MakeOptions> = {},
  ): Promise<{ image: string; uuid: string }> {
    const uuid = randomUUID();
    const image = this.newPath();
    const thick = options.thick ?? false;
    await files.createImage(image, { sizeBytes, allocate: thick });
    const defaults = { sectorSize: 4096, thick, uuid, options: [] } as const;
    await filesystems[fsType].make(image, { ...defaults, ...options });
    return { image, uuid: options.uuid ?? uuid };
  }

  /** A path for an image; a device attached to it at the end of the test is a failure. */
  newPath(): string {
    this.#count += 1;
    const path = join(this.directory, `disk-${this.#count}.img`);
    this.#images.add(path);
    return path;
  }

  /** Copies an image, even a mounted one; holes stay holes. */
  async copy(image: string): Promise<string> {
    const copy = this.newPath();
    await tool('cp', ['--sparse=auto', image, copy]);
    return copy;
  }

  /** Attaches and mounts the image during `work`. */
  async mounted<T>(
    fsType: FsType,
    image: string,
    work: (target: string, device: LoopDevice) => Promise<T>,
    options: { sectorSize?: SectorSize; discard?: boolean; options?: readonly string[] } = {},
  ): Promise<T> {
    const target = join(this.directory, `mount-${(this.#count += 1)}`);
    await mkdir(target);
    const device = await loops.attach(image, {
      sectorSize: options.sectorSize ?? 4096,
      readOnly: false,
      directIo: true,
      discard: options.discard ?? true,
      label: 'test',
    });
    try {
      this.#targets.add(target);
      const words = [...filesystems[fsType].mountOptions, ...(options.options ?? [])];
      await mounts.mountDevice(device.path, target, { fsType, options: words });
      return await work(target, device);
    } finally {
      await mounts.unmount(target);
      await loops.detach(device);
      this.#t.true(await this.#isFree(image), `${device.path} is detached`);
    }
  }

  /**
   * Waits until no device is attached to the image: a container that is just starting briefly has a copy of all our
   * mounts, which keeps the device in use.
   */
  async #isFree(image: string): Promise<boolean> {
    const giveUpAt = performance.now() + 10_000;
    const status = await files.imageStatus(image);
    while ((await loops.findByImage(status)).length > 0) {
      if (performance.now() > giveUpAt) return false;
      await delay(20);
    }
    return true;
  }

  /** Unmounts and detaches leftovers, reports them as failures, and removes the directory. */
  async close(): Promise<void> {
    for (const target of this.#targets) await mounts.unmount(target);
    const left: string[] = await readdir(this.workDir);
    for (const name of left) await mounts.unmount(join(this.workDir, name));
    for (const image of this.#images) {
      const status = await files.imageStatus(image).catch(() => undefined);
      for (const device of status === undefined ? [] : await loops.findByImage(status)) {
        left.push(`${device.path} on ${image}`);
        await loops.detach(device);
      }
    }
    await rm(this.directory, { recursive: true });
    this.#t.deepEqual(left, [], 'leftover private mounts and loop devices');
  }
}

/** Runs `body` with a fixture and removes it afterwards. */
export async function withFixture(
  t: ExecutionContext,
  body: (fixture: Fixture) => Promise<void>,
): Promise<void> {
  const fixture = new Fixture(t, await mkdtemp(join(tmpdir(), 'loopcsi-fs-')));
  await mkdir(fixture.workDir);
  try {
    await body(fixture);
  } finally {
    await fixture.close();
  }
}

/** Runs a program of the system, for changes that bypass the driver. */
export async function tool(
  file: string,
  args: readonly string[],
): Promise<{ exitCode: number; stdout: string }> {
  try {
    const { stdout } = await promisify(execFile)(file, [...args], { maxBuffer: 1 << 24 });
    return { exitCode: 0, stdout };
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'number') {
      throw error;
    }
    return { exitCode: error.code, stdout: 'stdout' in error ? String(error.stdout) : '' };
  }
}

/** Whether the checker of the filesystem, in read-only mode, finds nothing wrong. */
export async function isSound(fsType: FsType, image: string): Promise<boolean> {
  const checkers = {
    ext4: ['e2fsck', '-fn'],
    xfs: ['xfs_repair', '-n'],
    btrfs: ['btrfs', 'check', '--readonly'],
  } as const;
  const [file, ...args] = checkers[fsType];
  return (await tool(file, [...args, image])).exitCode === 0;
}

/** Overwrites bytes of an image. */
export async function writeAt(image: string, offset: number, bytes: Uint8Array): Promise<void> {
  const file = await open(image, 'r+');
  try {
    await file.write(bytes, 0, bytes.length, offset);
    await file.sync();
  } finally {
    await file.close();
  }
}

export async function readAt(image: string, offset: number, length: number): Promise<Buffer> {
  const file = await open(image, 'r');
  try {
    const buffer = Buffer.alloc(length);
    await file.read(buffer, 0, length, offset);
    return buffer;
  } finally {
    await file.close();
  }
}

/** SHA-256 of a file. */
export async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    if (!Buffer.isBuffer(chunk)) throw new TypeError('a stream of bytes was expected');
    hash.update(chunk);
  }
  return hash.digest('hex');
}
