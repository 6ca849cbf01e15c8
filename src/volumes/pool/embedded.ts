import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files, Host, LoopDevice } from '../../host/host.ts';
import { isFilesystemOn } from '../../host/mount/loop-mounts.ts';
import { formatBytes, MiB, roundUp } from '../../units.ts';
import type { Reached } from '../engine/fault-points.ts';
import { poolFiles, unfinishedEmbeddedImage } from './layout.ts';
import { lockForProcess } from './process-lock.ts';
import type { PoolSettings } from './settings.ts';

/**
 * An embedded pool is in an XFS image in the pool's directory, so that its images can share blocks. The image is mounted below the
 * same directory, because a container that shares this directory with its host then shares the mount too.
 */
const { embeddedImage: imageName, embeddedMount: mountName } = poolFiles;

/** The sector size of every volume by default: a file that was ever cloned needs 4 KiB sectors for direct I/O. */
const sectorSize = 4096;

interface Deps {
  readonly host: Host;
  readonly reached: Reached;
}

/** Whether the pool has an image of its own, or is configured to get one. */
export async function isEmbedded(
  files: Files,
  { path, reflinkBytes }: PoolSettings,
): Promise<boolean> {
  return reflinkBytes !== undefined || (await files.exists(join(path, imageName)));
}

/** The directory that contains `pool.json`, or will contain it. */
export async function poolRootIn(files: Files, directory: string): Promise<string> {
  return (await files.exists(join(directory, imageName))) ? join(directory, mountName) : directory;
}

/**
 * Mounts the image in `directory` and returns the mount point. Creates the image first if `mayCreate` is set. The loop device is
 * found by inode and reused, so that the image is never attached twice. Throws `unavailable` with advice.
 */
export async function openEmbedded(
  settings: PoolSettings,
  options: { directory: string; mayCreate: boolean; deps: Deps },
): Promise<string> {
  const { directory, mayCreate, deps } = options;
  const image = join(directory, imageName);
  try {
    if (!(await deps.host.files.exists(image))) {
      if (!mayCreate) throw imageMissingError(settings, directory);
      await createEmbedded(settings, directory, deps);
    }
    const device = await attachEmbedded(settings.name, image, deps.host);
    return await mountEmbedded(settings.name, { directory, device, deps });
  } catch (error) {
    if (error instanceof VolumeError) throw error;
    throw new VolumeError(
      'unavailable',
      `pool '${settings.name}': its image ${image} cannot be mounted: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/** Unmounts and detaches the image of a pool that is not served. Throws and changes nothing if it is in use. */
export async function closeEmbedded(directory: string, host: Host): Promise<void> {
  await host.mounts.unmount(join(directory, mountName));
  const status = await host.files.imageStatus(join(directory, imageName));
  for (const device of await host.loops.findByImage(status)) await host.loops.detach(device);
}

function imageMissingError({ name }: PoolSettings, directory: string): VolumeError {
  return new VolumeError(
    'unavailable',
    `pool '${name}': ${directory} has no ${imageName}; mount its disk, or create the pool with 'loopcsi pool init ${name}=${directory} --reflink SIZE'`,
  );
}

/** Creates the image. It gets its final name only when it is complete, allocated and durable. */
async function createEmbedded(
  settings: PoolSettings,
  directory: string,
  deps: Deps,
): Promise<void> {
  const { name, reflinkBytes = 0n } = settings;
  const { files, filesystems } = deps.host;
  const sizeBytes = roundUp(reflinkBytes, MiB);
  if (sizeBytes < filesystems.xfs.minBytes) {
    throw new VolumeError(
      'invalid',
      `pool '${name}': ${formatBytes(sizeBytes)} is too small for an embedded pool; the minimum is ${formatBytes(filesystems.xfs.minBytes)}`,
    );
  }
  await requireEmpty(files, name, directory);
  // The directory is locked, because another process may be creating the image. An image left by an interrupted attempt is
  // incomplete.
  const lock = await lockForProcess(files, join(directory, poolFiles.lock), {
    reason: 'unavailable',
    message: `pool '${name}': another process is creating its image; try again later`,
  });
  try {
    const image = join(directory, unfinishedEmbeddedImage);
    await files.removeFile(image);
    const request = { name, directory, sizeBytes, missingBytes: sizeBytes };
    await allocateImage(deps.host, request, () =>
      files.createImage(image, { sizeBytes, allocate: true }),
    );
    await filesystems.xfs.make(image, {
      sectorSize,
      thick: true,
      uuid: randomUUID(),
      options: ['-m', 'reflink=1'],
    });
    await files.growImage(image, { sizeBytes, allocate: true });
    await deps.reached('embedded:image-made');
    await files.renameNoReplace(image, join(directory, imageName));
    await files.sync(directory);
    await deps.reached('embedded:image-renamed');
  } finally {
    await lock.release();
  }
}

async function requireEmpty(files: Files, name: string, directory: string): Promise<void> {
  const allowed = ['lost+found', poolFiles.lock, mountName, unfinishedEmbeddedImage];
  const others = (await files.list(directory)).filter((entry) => !allowed.includes(entry));
  if (others.length === 0) return;
  throw new VolumeError(
    'unavailable',
    `pool '${name}': ${directory} is not empty (${others.slice(0, 3).join(', ')}); choose an empty directory for a new pool`,
  );
}

/**
 * Runs `work`, which allocates all blocks of an image: otherwise its writes would fail once other files fill the filesystem. The
 * free space is checked first, so that a size that is far too large is refused before it has filled the filesystem.
 */
async function allocateImage(
  host: Host,
  request: { name: string; directory: string; sizeBytes: bigint; missingBytes: bigint },
  work: () => Promise<void>,
): Promise<void> {
  const { name, directory, sizeBytes, missingBytes } = request;
  const { availableBytes } = await host.files.capacity(directory);
  const noSpace = (cause?: unknown): VolumeError =>
    new VolumeError(
      'no-space',
      `pool '${name}': ${directory} has ${formatBytes(availableBytes)} free, which is not enough for an image of ${formatBytes(sizeBytes)}; choose a smaller size, or free some space`,
      { cause },
    );
  if (missingBytes > availableBytes) throw noSpace();
  try {
    await work();
  } catch (error) {
    if (hasErrno(error, 'ENOSPC', 'EDQUOT', 'EFBIG')) throw noSpace(error);
    throw error;
  }
}

/** Returns the loop device of the image, even if another process attached it, or attaches a new one. */
async function attachEmbedded(name: string, image: string, host: Host): Promise<LoopDevice> {
  const status = await host.files.imageStatus(image);
  const present = (await host.loops.findByImage(status)).find((device) => !device.readOnly);
  if (present !== undefined) return present;
  // No discard: other files could take the blocks that the pool's filesystem returns, and later writes to it would fail.
  return host.loops.attach(image, {
    sectorSize,
    readOnly: false,
    directIo: true,
    discard: false,
    label: `pool ${name}`,
  });
}

async function mountEmbedded(
  name: string,
  options: { directory: string; device: LoopDevice; deps: Deps },
): Promise<string> {
  const { directory, device, deps } = options;
  const { mounts } = deps.host;
  const target = join(directory, mountName);
  await deps.host.files.makeDirectory(target);
  const present = await mounts.at(target);
  if (present !== undefined && !isFilesystemOn(present, device)) {
    throw new VolumeError(
      'unavailable',
      `pool '${name}': something else (${present.source}) is mounted at ${target}; unmount it`,
    );
  }
  if (present === undefined) {
    await mounts.mountDevice(device.path, target, { fsType: 'xfs', options: [] });
    await deps.reached('embedded:mounted');
  }
  return target;
}

/**
 * Grows the image, the device and the filesystem of an embedded pool while it is mounted. Does nothing if it has that size already.
 * Throws `out-of-range` if it would shrink, `no-space` if the directory's filesystem lacks space.
 */
export async function growEmbedded(
  host: Host,
  pool: { name: string; directory: string },
  sizeBytes: bigint,
): Promise<void> {
  const image = join(pool.directory, imageName);
  const wanted = roundUp(sizeBytes, MiB);
  const status = await host.files.imageStatus(image);
  if (wanted < status.sizeBytes) {
    throw new VolumeError(
      'out-of-range',
      `pool '${pool.name}' has a size of ${formatBytes(status.sizeBytes)} and cannot shrink to ${formatBytes(wanted)}`,
    );
  }
  const missingBytes = wanted > status.allocatedBytes ? wanted - status.allocatedBytes : 0n;
  await allocateImage(host, { ...pool, sizeBytes: wanted, missingBytes }, () =>
    host.files.growImage(image, { sizeBytes: wanted, allocate: true }),
  );
  const device = await attachEmbedded(pool.name, image, host);
  await host.loops.refreshSize(device);
  await host.filesystems.xfs.growMounted(join(pool.directory, mountName), device, wanted);
}
