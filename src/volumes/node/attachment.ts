import { VolumeError } from '../../errors.ts';
import { hasErrno, isStorageFailure } from '../../host/errors.ts';
import type { ImageStatus, LoopDevice, Mount } from '../../host/host.ts';
import { markOf } from '../../host/loop-status.ts';
import type { VolumeRecord } from '../../state/records.ts';
import { byUsersOf } from '../busy-mount.ts';
import type { Domain } from '../domain.ts';
import { explain } from '../failures.ts';
import { dirtyLimitBytes, isFreezable } from '../guard/watermarks.ts';
import type { FoundVolume } from '../pools/pools.ts';

/** What the kernel says of one image: its loop devices, found by inode, and where they are mounted in our namespace. */
export interface Attachment {
  /** The image as it was when its devices were looked for; undefined where it is gone. */
  readonly image: ImageStatus | undefined;
  readonly readWrite: LoopDevice | undefined;
  readonly readOnly: LoopDevice | undefined;
  readonly devices: readonly LoopDevice[];
  /** Mounts of the filesystem on the read-write device, bottom first. */
  readonly mounts: readonly Mount[];
  /** All mounts of our namespace, of the same look; empty when there is no device. */
  readonly table: readonly Mount[];
}

/** The mounts that were at exactly that target in the same look, bottom first. Asks again where none was needed before. */
export async function mountsAt(
  domain: Domain,
  present: Attachment,
  target: string,
): Promise<readonly Mount[]> {
  const table = present.devices.length > 0 ? present.table : await domain.host.mounts.list();
  return table.filter((mount) => mount.target === target);
}

/** Whether that mount is of the filesystem on that device. btrfs has a device number of its own, so its source is compared. */
export function isMountOf(mount: Mount, device: LoopDevice): boolean {
  return (
    mount.majorMinor === device.majorMinor ||
    (mount.fsType === 'btrfs' && mount.source === device.path)
  );
}

/** Whether that mount is the device node itself, bound onto a file. */
export function isNodeOf(mount: Mount, device: LoopDevice): boolean {
  return (
    mount.root === `/loop${device.number}` &&
    (mount.fsType === 'devtmpfs' || mount.fsType === 'tmpfs')
  );
}

/** Asks the kernel; remembers nothing. Throws `unavailable` when the image is gone. */
export async function attachmentOf(domain: Domain, volume: FoundVolume): Promise<Attachment> {
  const image = await statusOf(domain, volume);
  return attachmentTo(domain, await domain.host.loops.findByImage(image), image);
}

/**
 * The same for calls that take away. Where the image is gone or was replaced, the mark on a device is all that tells whose
 * it was: good enough to end it, never to use it.
 */
export async function remainsOf(
  domain: Domain,
  volume: FoundVolume,
  path: string,
): Promise<Attachment> {
  const image = await statusOf(domain, volume).catch((error: unknown) => {
    // Gone, or on a filesystem that has failed.
    if (error instanceof VolumeError || isStorageFailure(error)) return undefined;
    throw error;
  });
  const devices = image === undefined ? [] : await domain.host.loops.findByImage(image);
  if (devices.length > 0) return attachmentTo(domain, devices, image);
  return remainsByMark(domain, [volume.record.id], path);
}

/**
 * What is left of volumes that cannot be looked up at all: their pool is away, or their record gone or unreadable. `path` is
 * where the caller wants it to end.
 */
export async function remainsByMark(
  domain: Domain,
  ids: readonly string[],
  path?: string,
): Promise<Attachment> {
  const marks = ids.map(markOf);
  const remains: LoopDevice[] = [];
  for (const device of await domain.host.loops.list()) {
    if (marks.includes(device.mark) && (await isOurs(domain, device, path))) remains.push(device);
  }
  return attachmentTo(domain, remains);
}

/**
 * A mark alone proves nothing: another driver of this machine, one that serves other pools for the same node, Docker's for
 * example, gives equal ids to equal names, perhaps from a mount namespace of its own, where we cannot see its images. Ours is
 * what lies in a pool of ours, what has lost its image, and else only what is mounted where the caller says.
 */
async function isOurs(
  domain: Domain,
  device: LoopDevice,
  asked: string | undefined,
): Promise<boolean> {
  const { files, loops, mounts } = domain.host;
  const path = await loops.backingPath(device);
  if (path === undefined) return false;
  if (path.endsWith(' (deleted)')) return true;
  const inPool = domain.pools.all.some((pool) =>
    [pool.settings.path, ...(pool.isServed ? [pool.root] : [])].some((one) =>
      path.startsWith(`${one}/`),
    ),
  );
  if (inPool) return true;
  const image = await files.imageStatus(path).catch(() => undefined);
  const { backing } = device;
  if (image?.device === backing.device && image.inode === backing.inode) return false;
  return (await mounts.list()).some(
    (mount) =>
      asked !== undefined &&
      (mount.target === asked || mount.target.startsWith(`${asked}/`)) &&
      (isMountOf(mount, device) || isNodeOf(mount, device)),
  );
}

/** What the kernel says of these devices of one image. */
export async function attachmentTo(
  domain: Domain,
  devices: readonly LoopDevice[],
  image?: ImageStatus,
): Promise<Attachment> {
  const readWrite = devices.find((device) => !device.readOnly);
  const readOnly = devices.find((device) => device.readOnly);
  const base = { image, readWrite, readOnly, devices };
  if (devices.length === 0) return { ...base, mounts: [], table: [] };
  const table = await domain.host.mounts.list();
  const mounts = table.filter((mount) =>
    devices.some((device) => isMountOf(mount, device) || isNodeOf(mount, device)),
  );
  return { ...base, mounts, table };
}

export async function statusOf(domain: Domain, volume: FoundVolume) {
  try {
    return await domain.host.files.imageStatus(volume.imagePath);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
    throw new VolumeError(
      'unavailable',
      `volume '${volume.record.id}': its image ${volume.imagePath} is gone, its record is there; restore the image, or delete the volume`,
      { cause: error },
    );
  }
}

/** Attaches the image read-write, or answers the device that is there: one per image, ever (design, rule 8). */
export async function ensureAttached(
  domain: Domain,
  volume: FoundVolume,
  present: Attachment,
): Promise<LoopDevice> {
  if (present.readWrite !== undefined) return present.readWrite;
  return attach(domain, volume, { readOnly: false });
}

/** Attaches a second, read-only device for a read-only raw block publish. */
export async function attach(
  domain: Domain,
  volume: FoundVolume,
  options: { readOnly: boolean },
): Promise<LoopDevice> {
  const { record } = volume;
  try {
    const device = await domain.host.loops.attach(volume.imagePath, {
      sectorSize: record.sectorSize,
      readOnly: options.readOnly,
      directIo: record.directIo,
      discard: record.provisioning === 'thin' && record.trim !== 'off',
      mark: record.id,
      ...(isFreezable(volume.pool, record) && !options.readOnly ? { dirtyLimitBytes } : {}),
    });
    warnOfBufferedIo(domain, record, device);
    return device;
  } catch (error) {
    throw await explain(error, `volume '${record.id}': cannot attach its image`, volume.pool);
  }
}

function warnOfBufferedIo(domain: Domain, record: VolumeRecord, device: LoopDevice): void {
  if (!record.directIo || device.directIo) return;
  domain.log.warn(
    { volumeId: record.id, device: device.path, sectorSize: record.sectorSize },
    'the kernel refuses direct I/O for this image (its filesystem needs larger sectors or has none); data is cached twice',
  );
}

/** Detaches a device nobody uses. Throws `busy` when somebody does after all. */
export async function detach(domain: Domain, device: LoopDevice, volumeId: string): Promise<void> {
  const outcome = await domain.host.loops.detach(device);
  if (outcome === 'detached') return;
  const users = await byUsersOf(domain.host, device);
  const by = users === '' ? ', perhaps in another mount namespace' : users;
  throw new VolumeError(
    'busy',
    `volume '${volumeId}': ${device.path} is still in use${by}; end what has it open or mounted, then repeat the call`,
  );
}
