import { join } from 'node:path';
import { messageOf } from '../../errors.ts';
import type { FsType, LoopDevice, Mount } from '../../host/host.ts';
import { removeVolume } from '../controller/delete.ts';
import type { Domain } from '../domain.ts';
import type { Pool } from '../pools/pool.ts';
import { setTwinsAside } from '../pools/twins.ts';
import { isMountOf, isNodeOf } from './attachment.ts';

/** An image of a pool that may sit below a loop device. */
interface KnownImage {
  readonly path: string;
  readonly id: string;
  readonly fsType: FsType | null;
}

/**
 * Brings what a crash left in one pool to rest, before any call is answered: thaws every filesystem of ours first, detaches
 * devices nobody uses, empties `tmp/` of all but copies that can go on, removes inline volumes whose target is gone, queues the trash. What it cannot explain
 * it reports and leaves alone. Idempotent.
 */
export async function reconcile(domain: Domain, pool: Pool): Promise<void> {
  await setTwinsAside(domain, pool);
  const devices = await domain.host.loops.list();
  if (devices.length > 0) {
    const mounts = await domain.host.mounts.list();
    const images = await imagesOf(domain, pool);
    for (const device of devices) {
      const image = images.get(keyOf(device.backing));
      if (image === undefined) continue;
      // While running, when a pool comes back: a call that is at it knows better.
      if (domain.operations.locks.holderOf(`volume:${image.id}`) !== undefined) continue;
      await quietly(domain, image.id, () => settleDevice(domain, pool, { device, image, mounts }));
    }
  }
  await sweepTemporary(domain, pool);
  await removeLostEphemerals(domain, pool);
  await domain.trash.sweep(pool);
}

function keyOf(file: { device: bigint; inode: bigint }): string {
  return `${file.device}:${file.inode}`;
}

/** Every image of the pool by device and inode: volumes, inline ones, what stands in `tmp/` and `trash/`. */
async function imagesOf(domain: Domain, pool: Pool): Promise<ReadonlyMap<string, KnownImage>> {
  const known: KnownImage[] = [];
  for (const [area, index] of [
    ['volumes', pool.volumes],
    ['ephemeral', pool.ephemerals],
  ] as const) {
    for (const { id, fsType } of index.values()) {
      known.push({ path: pool.pathOf(area, id, 'disk.img'), id, fsType });
    }
    // One that may not be used may be frozen or attached all the same.
    for (const id of index.aside.keys()) {
      known.push({ path: pool.pathOf(area, id, 'disk.img'), id, fsType: null });
    }
  }
  for (const area of ['tmp', 'trash'] as const) {
    for (const entry of await domain.host.files.list(pool.pathOf(area))) {
      known.push({ path: pool.pathOf(area, entry, 'disk.img'), id: entry, fsType: null });
    }
  }
  const images = new Map<string, KnownImage>();
  for (const image of known) {
    const status = await domain.host.files.imageStatus(image.path).catch(() => undefined);
    if (status !== undefined) images.set(keyOf(status), image);
  }
  return images;
}

async function settleDevice(
  domain: Domain,
  pool: Pool,
  found: { device: LoopDevice; image: KnownImage; mounts: readonly Mount[] },
): Promise<void> {
  const { device, image, mounts } = found;
  const { host, log } = domain;
  const here = mounts.filter((mount) => isMountOf(mount, device));
  const inTemporary = pool.pathOf('tmp');
  const [first] = here;
  if (first !== undefined) {
    if (await host.mounts.thaw(first.target, device)) {
      log.warn({ volumeId: image.id, target: first.target }, 'thawed a filesystem left frozen');
    }
    // Private mounts of a log replay or a growth that was cut short.
    if (!first.target.startsWith(`${inTemporary}/`)) return;
    for (const mount of here) await host.mounts.unmount(mount.target);
  } else if (mounts.some((mount) => isNodeOf(mount, device))) {
    return;
  } else if (await host.loops.isInUse(device)) {
    await thawUnseen(domain, pool, { device, image });
    log.warn(
      { volumeId: image.id, device: device.path },
      'a device of ours is in use outside this mount namespace; it is left attached',
    );
    return;
  }
  const outcome = await host.loops.detach(device);
  log.info({ volumeId: image.id, device: device.path, outcome }, 'detached an unused loop device');
}

/** Frozen and unmounted looks like this: in use by nobody we see. Mounting joins the old superblock, so it can be thawed. */
async function thawUnseen(
  domain: Domain,
  pool: Pool,
  found: { device: LoopDevice; image: KnownImage },
): Promise<void> {
  const { device, image } = found;
  if (image.fsType === null) return;
  const target = pool.pathOf('tmp', `thaw.${device.number}`);
  await domain.host.files.makeDirectory(target);
  try {
    await domain.host.mounts.mountDevice(device.path, target, {
      fsType: image.fsType,
      options: [],
    });
    if (await domain.host.mounts.thaw(target, device)) {
      domain.log.warn({ volumeId: image.id }, 'thawed a filesystem left frozen and unmounted');
    }
  } finally {
    await domain.host.mounts.unmount(target);
    await domain.host.files.removeTree(target);
  }
}

async function sweepTemporary(domain: Domain, pool: Pool): Promise<void> {
  const directory = pool.pathOf('tmp');
  const below = (await domain.host.mounts.list()).filter(({ target }) =>
    target.startsWith(`${directory}/`),
  );
  for (const mount of below.reverse()) {
    await quietly(domain, mount.target, () => domain.host.mounts.unmount(mount.target));
  }
  for (const entry of await domain.host.files.list(directory)) {
    await quietly(domain, entry, async () => {
      if (await domain.restores.keep(domain, pool, entry)) return;
      await domain.host.files.removeTree(join(directory, entry));
      domain.log.info(
        { pool: pool.name, entry },
        'removed what an interrupted call left half-made',
      );
    });
  }
}

async function removeLostEphemerals(domain: Domain, pool: Pool): Promise<void> {
  for (const record of [...pool.ephemerals.values()]) {
    const target = record.ephemeralTarget;
    if (target !== null && (await domain.host.files.exists(target))) continue;
    const imagePath = pool.pathOf('ephemeral', record.id, 'disk.img');
    await quietly(domain, record.name, () =>
      removeVolume(domain, { pool, record, area: 'ephemeral', imagePath }),
    );
  }
}

/** One thing that cannot be settled must not keep the driver from serving the others. */
async function quietly(domain: Domain, id: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    domain.log.error({ id, problem: messageOf(error) }, 'a leftover could not be settled');
  }
}
