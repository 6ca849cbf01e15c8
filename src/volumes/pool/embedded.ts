import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files, Host, LoopDevice } from '../../host/host.ts';
import { isFilesystemOn } from '../../host/mount/loop-mounts.ts';
import { formatBytes, MiB, roundUp } from '../../units.ts';
import type { Reached } from '../engine/fault-points.ts';
import { poolFiles } from './layout.ts';
import type { PoolSettings } from './settings.ts';

/** An XFS image in the pool's directory, in which the pool lies so that it can share blocks. */
const imageName = 'reflink.img';
/** Where it is mounted, below the same directory: what a container shares with its host shows it there too. */
const mountName = 'reflink';
/** The image under way; its rename is the commit. */
const newName = `${imageName}.new`;

/** The image is made for these, as every volume is: a file that was ever cloned needs them for direct I/O. */
const sectorSize = 4096;

interface Deps {
  readonly host: Host;
  readonly reached: Reached;
}

/** Whether the pool lies in an image of its own: it was made so, or is to be. */
export async function isEmbedded(
  files: Files,
  { path, reflinkBytes }: PoolSettings,
): Promise<boolean> {
  return reflinkBytes !== undefined || (await files.exists(join(path, imageName)));
}

/** The directory that holds, or would hold, `pool.json`. */
export async function poolRootIn(files: Files, directory: string): Promise<string> {
  return (await files.exists(join(directory, imageName))) ? join(directory, mountName) : directory;
}

/**
 * Mounts the image in `directory` and answers where; makes it first where that is allowed. Its loop device is found by inode
 * and reused, so that it is never attached twice. Throws `unavailable` with what to do.
 */
export async function openEmbedded(
  settings: PoolSettings,
  options: { directory: string; mayBeMade: boolean; deps: Deps },
): Promise<string> {
  const { directory, mayBeMade, deps } = options;
  const image = join(directory, imageName);
  try {
    if (!(await deps.host.files.exists(image))) {
      if (!mayBeMade) throw notThere(settings, directory);
      await makeEmbedded(settings, directory, deps);
    }
    const device = await attachEmbedded(settings.name, image, deps.host);
    return await mountEmbedded(settings.name, { directory, device, deps });
  } catch (error) {
    if (error instanceof VolumeError) throw error;
    throw new VolumeError(
      'unavailable',
      `pool '${settings.name}': its image ${image} cannot be used: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/** Unmounts and detaches a pool's image that nobody serves; what is in use stays as it is. */
export async function closeEmbedded(directory: string, host: Host): Promise<void> {
  await host.mounts.unmount(join(directory, mountName));
  const status = await host.files.imageStatus(join(directory, imageName));
  for (const device of await host.loops.findByImage(status)) await host.loops.detach(device);
}

function notThere({ name }: PoolSettings, directory: string): VolumeError {
  return new VolumeError(
    'unavailable',
    `pool '${name}': ${directory} has no ${imageName}; mount its disk, or make the pool with 'loopcsi pool init ${name}=${directory} --reflink SIZE'`,
  );
}

/** The image is whole, allocated and on the disk before it has its name. */
async function makeEmbedded(settings: PoolSettings, directory: string, deps: Deps): Promise<void> {
  const { name, reflinkBytes = 0n } = settings;
  const { files, filesystems } = deps.host;
  const sizeBytes = roundUp(reflinkBytes, MiB);
  if (sizeBytes < filesystems.xfs.minBytes) {
    throw new VolumeError(
      'invalid',
      `pool '${name}': ${formatBytes(sizeBytes)} is too small for an embedded pool; the least is ${formatBytes(filesystems.xfs.minBytes)}`,
    );
  }
  await requireEmpty(files, name, directory);
  // One at a time: another process may have begun, and what it left is not whole.
  const lock = await lockDirectory(name, directory, deps.host);
  try {
    const image = join(directory, newName);
    await files.removeFile(image);
    const room = { name, directory, sizeBytes, missingBytes: sizeBytes };
    await withRoom(deps.host, room, () => files.createImage(image, { sizeBytes, allocate: true }));
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
  const allowed = ['lost+found', poolFiles.lock, mountName, newName];
  const others = (await files.list(directory)).filter((entry) => !allowed.includes(entry));
  if (others.length === 0) return;
  throw new VolumeError(
    'unavailable',
    `pool '${name}': ${directory} is not empty (${others.slice(0, 3).join(', ')}); an embedded pool starts in an empty directory`,
  );
}

async function lockDirectory(name: string, directory: string, host: Host) {
  try {
    return await host.files.lock(join(directory, poolFiles.lock));
  } catch (error) {
    if (!hasErrno(error, 'EAGAIN', 'EWOULDBLOCK')) throw error;
    throw new VolumeError('unavailable', `pool '${name}': another process is making its image`);
  }
}

/**
 * An image that is not allocated would break in use when others fill its filesystem: all of it is allocated, or nothing.
 * Looked at first, so that a size far too large does not fill the filesystem on the way to its refusal.
 */
async function withRoom(
  host: Host,
  asked: { name: string; directory: string; sizeBytes: bigint; missingBytes: bigint },
  work: () => Promise<void>,
): Promise<void> {
  const { name, directory, sizeBytes, missingBytes } = asked;
  const { availableBytes } = await host.files.capacity(directory);
  const noRoom = (cause?: unknown): VolumeError =>
    new VolumeError(
      'no-space',
      `pool '${name}': ${directory} has ${formatBytes(availableBytes)} free, which is no room for an image of ${formatBytes(sizeBytes)}; choose a smaller one, or free some space`,
      { cause },
    );
  if (missingBytes > availableBytes) throw noRoom();
  try {
    await work();
  } catch (error) {
    if (hasErrno(error, 'ENOSPC', 'EDQUOT', 'EFBIG')) throw noRoom(error);
    throw error;
  }
}

/** The device on the image: the one that is there, of whoever attached it, or a new one. */
async function attachEmbedded(name: string, image: string, host: Host): Promise<LoopDevice> {
  const status = await host.files.imageStatus(image);
  const present = (await host.loops.findByImage(status)).find((device) => !device.readOnly);
  if (present !== undefined) return present;
  // Not discarded: what the pool's filesystem gives back would else be taken by others, and missing later.
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
  const there = await mounts.at(target);
  if (there !== undefined && !isFilesystemOn(there, device)) {
    throw new VolumeError(
      'unavailable',
      `pool '${name}': something else (${there.source}) is mounted at ${target}; unmount it`,
    );
  }
  if (there === undefined) {
    await mounts.mountDevice(device.path, target, { fsType: 'xfs', options: [] });
    await deps.reached('embedded:mounted');
  }
  return target;
}

/**
 * Grows image, device and filesystem of an embedded pool, in use. As large already is fine. Throws `out-of-range` when it
 * would shrink, `no-space` when the directory's filesystem has no room.
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
      `pool '${pool.name}' has ${formatBytes(status.sizeBytes)} and cannot shrink to ${formatBytes(wanted)}`,
    );
  }
  const missingBytes = wanted > status.allocatedBytes ? wanted - status.allocatedBytes : 0n;
  await withRoom(host, { ...pool, sizeBytes: wanted, missingBytes }, () =>
    host.files.growImage(image, { sizeBytes: wanted, allocate: true }),
  );
  const device = await attachEmbedded(pool.name, image, host);
  await host.loops.refreshSize(device);
  await host.filesystems.xfs.growMounted(join(pool.directory, mountName), device, wanted);
}
