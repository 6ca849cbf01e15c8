import { join } from 'node:path';
import { runConcurrently } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { FsType, LoopDevice, Mount } from '../../host/host.ts';
import { isFilesystemOn, isNodeOf } from '../../host/mount/loop-mounts.ts';
import { attachmentOfDevices } from '../attachment/attachment.ts';
import { limitDevice } from '../attachment/io-limits.ts';
import { isTemporaryMount } from '../attachment/temporary-mounts.ts';
import type { Domain } from '../domain.ts';
import { callIdOf } from '../pool/contents.ts';
import { imageFile, volumeAreas } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { maxConcurrentVolumes } from '../pool/thresholds.ts';
import { recoverVolume } from './recover-volume.ts';

/** An image of a pool that may be attached. */
interface KnownImage {
  readonly path: string;
  readonly id: string;
  readonly fsType: FsType | null;
  /** undefined if there is no readable record. */
  readonly volume?: FoundVolume;
}

interface FoundDevice {
  readonly device: LoopDevice;
  readonly image: KnownImage;
  readonly mounts: readonly Mount[];
}

/** Thaws filesystems that a crash left frozen, and detaches the devices of the pool's images that are not in use. */
export async function recoverDevices(domain: Domain, pool: Pool): Promise<void> {
  const devices = await domain.host.loops.list();
  if (devices.length === 0) return;
  const mounts = await domain.host.mounts.list();
  const images = await imagesByInode(domain, pool);
  const found = devices.flatMap((device) => {
    const image = images.get(keyOf(device.backing));
    return image === undefined ? [] : [{ device, image, mounts }];
  });
  const jobs = [...new Set(found.map(({ image }) => image))].map((image) => () => {
    const ofImage = found.filter((one) => one.image === image);
    return recoverVolume(domain, pool, image.id, async (domain) => {
      for (const one of ofImage) await recoverDevice(domain, pool, one);
    });
  });
  await runConcurrently(jobs, maxConcurrentVolumes);
}

function keyOf(file: { device: bigint; inode: bigint }): string {
  return `${file.device}:${file.inode}`;
}

/** Maps device and inode to each image of the pool: of volumes, inline volumes, and entries in `tmp/` and `trash/`. */
async function imagesByInode(domain: Domain, pool: Pool): Promise<ReadonlyMap<string, KnownImage>> {
  const known: KnownImage[] = [];
  for (const volume of pool.images()) {
    const { fsType } = volume.record;
    known.push({ path: volume.imagePath, id: callIdOf(volume), fsType, volume });
  }
  for (const area of volumeAreas) {
    // An entry that is set aside can also be frozen or attached.
    for (const id of pool.indexOf(area).aside.keys()) {
      known.push({ path: pool.imagePathOf(area, id), id, fsType: null });
    }
  }
  for (const area of ['tmp', 'trash'] as const) {
    const directory = pool.directoryOf(area);
    for (const entry of await domain.host.files.list(directory)) {
      known.push({ path: join(directory, entry, imageFile), id: entry, fsType: null });
    }
  }
  const images = new Map<string, KnownImage>();
  for (const image of known) {
    const status = await domain.host.files.imageStatus(image.path).catch(() => undefined);
    if (status !== undefined) images.set(keyOf(status), image);
  }
  return images;
}

async function recoverDevice(domain: Domain, pool: Pool, found: FoundDevice): Promise<void> {
  const { device, image, mounts } = found;
  const { host, log } = domain;
  const ownMounts = mounts.filter((mount) => isFilesystemOn(mount, device));
  const [first] = ownMounts;
  if (first !== undefined) {
    if (await host.mounts.thaw(first.target, device)) {
      log.warn({ volumeId: image.id, target: first.target }, 'thawed a filesystem left frozen');
    }
    if (!ownMounts.every(({ target }) => isTemporaryMount(pool, target)))
      return keepMounted(domain, found);
    // All mounts are temporary mounts of an interrupted log replay or growth.
    for (const mount of ownMounts.toReversed()) await host.mounts.unmount(mount.target);
  } else if (await keepBoundDevice(domain, pool, found)) {
    return;
  } else if (await host.loops.isInUse(device)) {
    await thawWithoutMount(domain, found);
    if (await host.loops.isInUse(device)) {
      log.warn(
        { volumeId: image.id, device: device.path },
        'a loop device of the driver was in use outside this mount namespace and was left attached',
      );
      return;
    }
  }
  const outcome = await host.loops.detach(device);
  log.info({ volumeId: image.id, device: device.path, outcome }, 'detached an unused loop device');
}

async function keepMounted(domain: Domain, { device, image }: FoundDevice): Promise<void> {
  await restoreLimits(domain, { device, image });
  if (!device.autoclear) return;
  await domain.host.loops.clearAutoclear(device);
  domain.log.warn(
    { volumeId: image.id, device: device.path },
    'another process had requested the detach of a device in use; the device was kept attached',
  );
}

/** Returns whether the device node is bind mounted for its own volume. If it is, this driver now holds the device open. */
async function keepBoundDevice(domain: Domain, pool: Pool, found: FoundDevice): Promise<boolean> {
  const { device, image, mounts } = found;
  if (!mounts.some((mount) => isNodeOf(mount, device))) return false;
  const attachment = await attachmentOfDevices(domain, [device], {
    volume: image.volume,
    table: mounts,
  });
  if (attachment.mounts.length === 0) return false;
  await restoreLimits(domain, { device, image });
  return domain.openDevices.open(domain.host, { device, volumeId: image.id, pool: pool.name });
}

/** Sets the limits that a call recorded but did not set, or that the cgroup has lost. Volumes in use are not ended if this fails. */
async function restoreLimits(
  domain: Domain,
  { device, image }: Pick<FoundDevice, 'device' | 'image'>,
): Promise<void> {
  if (image.volume === undefined) return;
  try {
    await limitDevice(domain, image.volume, device);
  } catch (error) {
    domain.log.error(
      { volumeId: image.id, device: device.path, problem: messageOf(error) },
      'the I/O limits of a volume in use could not be set',
    );
  }
}

/** Thaws a filesystem that was unmounted while frozen. It keeps its device in use although no mount is visible. */
async function thawWithoutMount(
  { host, log }: Domain,
  { device, image }: FoundDevice,
): Promise<void> {
  if (image.fsType === null) return;
  try {
    if (await host.mounts.thawWithoutMount(device, image.fsType)) {
      log.warn({ volumeId: image.id }, 'thawed a filesystem left frozen and unmounted');
    }
  } catch (error) {
    // EBUSY: a program uses the device, not a filesystem.
    const level = hasErrno(error, 'EBUSY') ? 'debug' : 'warn';
    log[level](
      { volumeId: image.id, device: device.path, problem: messageOf(error) },
      'could not determine whether a filesystem was left frozen',
    );
  }
}
