import { join } from 'node:path';
import { runConcurrently, timedOut, withTimeout } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { FsType, Host, LoopDevice, Mount } from '../../host/host.ts';
import { isFilesystemOn, isNodeOf } from '../../host/mount/loop-mounts.ts';
import { attachmentOf, attachmentOfDevices } from '../attachment/attachment.ts';
import { bindTargetsIn } from '../attachment/device-binds.ts';
import { setDuplicatesAside } from '../attachment/duplicates.ts';
import { targetsOf } from '../attachment/lost-device.ts';
import { readNodeState } from '../attachment/node-state.ts';
import { isTemporaryMount } from '../attachment/temporary-mounts.ts';
import type { Domain } from '../domain.ts';
import { volumeAreas } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { removeVolume } from '../volume/delete.ts';

/** An image of a pool that may sit below a loop device. */
interface KnownImage {
  readonly path: string;
  readonly id: string;
  readonly fsType: FsType | null;
  /** undefined for what has no readable record. */
  readonly volume?: FoundVolume;
}

/**
 * Brings what a crash left in one pool to rest, before any call is answered: thaws every filesystem of ours first, detaches
 * devices nobody uses, empties `tmp/` of all but copies that can go on, removes inline volumes whose target is gone, queues
 * the trash. One entry that fails, hangs or cannot be explained is reported and left alone: only a failure of the pool itself
 * keeps it from being served. Idempotent.
 */
export async function recoverPool(domain: Domain, pool: Pool): Promise<void> {
  await logPrograms(domain, pool);
  await setDuplicatesAside(domain, pool);
  const devices = await domain.host.loops.list();
  if (devices.length > 0) {
    const mounts = await domain.host.mounts.list();
    const images = await imagesOf(domain, pool);
    const found = devices.flatMap((device) => {
      const image = images.get(keyOf(device.backing));
      return image === undefined ? [] : [{ device, image, mounts }];
    });
    const jobs = [...new Set(found.map(({ image }) => image))].map((image) => () => {
      const ofImage = found.filter((one) => one.image === image);
      return recoverVolume(domain, pool, image.id, async () => {
        for (const one of ofImage) await recoverDevice(domain, pool, one);
      });
    });
    await runConcurrently(jobs, maxConcurrent);
  }
  await reportLost(domain, pool);
  await sweepTemporary(domain, pool);
  await removeOrphanedInline(domain, pool);
  await domain.trash.sweep(pool);
}

/** Entries that are settled side by side at a start. */
const maxConcurrent = 8;
/** One that takes longer goes on by itself, with its lock, while the pool is served. */
const recoveryTimeoutMs = 3_000;

/**
 * Settles one volume under its lock: while running, when a pool comes back, a call that is at it knows better. Its kernel calls
 * have an owner of their own, so that one that hangs, on a target that is a dead FUSE mount for example, stops only its volume.
 */
async function recoverVolume(
  domain: Domain,
  pool: Pool,
  id: string,
  work: () => Promise<void>,
): Promise<void> {
  const { locks } = domain.operations;
  if (locks.holderOf(`volume:${id}`) !== undefined) return;
  const release = locks.take({ exclusive: [`volume:${id}`] }, 'the start of its pool');
  const settled = domain
    .inLane({ kind: 'recover', id, pool: pool.name }, () => logFailure(domain, id, work))
    .finally(release);
  if ((await withTimeout(settled, recoveryTimeoutMs)) !== timedOut) return;
  domain.log.error({ id }, 'an entry does not answer; its pool is served without it');
}

/** Programs of a driver that has ended and still work on an image: the calls that need it are refused until they end. */
async function logPrograms(domain: Domain, pool: Pool): Promise<void> {
  for (const { name, pid, paths } of await domain.host.runningPrograms()) {
    for (const path of paths) {
      if (!path.startsWith(`${pool.root}/`)) continue;
      const [area, id] = path.slice(pool.root.length + 1).split('/');
      domain.log.warn(
        {
          pool: pool.name,
          program: name,
          pid,
          path,
          ...(area === 'volumes' ? { volumeId: id } : {}),
        },
        'a program of a driver that has ended still works on an image; calls that need it are refused until it ends',
      );
    }
  }
}

function keyOf(file: { device: bigint; inode: bigint }): string {
  return `${file.device}:${file.inode}`;
}

/** Every image of the pool by device and inode: volumes, inline ones, what stands in `tmp/` and `trash/`. */
async function imagesOf(domain: Domain, pool: Pool): Promise<ReadonlyMap<string, KnownImage>> {
  const known: KnownImage[] = [];
  for (const volume of pool.images()) {
    const { area, imagePath: path } = volume;
    const { id, name, fsType } = volume.record;
    // Calls know an inline volume by the kubelet's id.
    known.push({ path, id: area === 'ephemeral' ? name : id, fsType, volume });
  }
  for (const area of volumeAreas) {
    // One that may not be used may be frozen or attached all the same.
    for (const id of pool.indexOf(area).aside.keys()) {
      known.push({ path: pool.imagePathOf(area, id), id, fsType: null });
    }
  }
  for (const area of ['tmp', 'trash'] as const) {
    for (const entry of await domain.host.files.list(pool.pathOf(area))) {
      known.push({ path: pool.imagePathOf(area, entry), id: entry, fsType: null });
    }
  }
  const images = new Map<string, KnownImage>();
  for (const image of known) {
    const status = await domain.host.files.imageStatus(image.path).catch(() => undefined);
    if (status !== undefined) images.set(keyOf(status), image);
  }
  return images;
}

async function recoverDevice(
  domain: Domain,
  pool: Pool,
  found: { device: LoopDevice; image: KnownImage; mounts: readonly Mount[] },
): Promise<void> {
  const { device, image, mounts } = found;
  const { host, log } = domain;
  const here = mounts.filter((mount) => isFilesystemOn(mount, device));
  const [first] = here;
  if (first !== undefined) {
    if (await host.mounts.thaw(first.target, device)) {
      log.warn({ volumeId: image.id, target: first.target }, 'thawed a filesystem left frozen');
    }
    // Private mounts of a log replay or a growth that was cut short.
    if (!here.every(({ target }) => isTemporaryMount(pool, target)))
      return keepMounted(domain, found);
    for (const mount of here.toReversed()) await host.mounts.unmount(mount.target);
  } else if (await keepBoundDevice(domain, pool, found)) {
    return;
  } else if (await host.loops.isInUse(device)) {
    await thawWithoutMount(domain, { device, image });
    if (await host.loops.isInUse(device)) {
      log.warn(
        { volumeId: image.id, device: device.path },
        'a device of ours is in use outside this mount namespace; it is left attached',
      );
      return;
    }
  }
  const outcome = await host.loops.detach(device);
  log.info({ volumeId: image.id, device: device.path, outcome }, 'detached an unused loop device');
}

async function keepMounted(
  domain: Domain,
  { device, image }: { device: LoopDevice; image: KnownImage },
): Promise<void> {
  if (!device.autoclear) return;
  await domain.host.loops.clearAutoclear(device);
  domain.log.warn(
    { volumeId: image.id, device: device.path },
    'somebody asked for the end of a device in use; it stays attached',
  );
}

/** Whether its node is bound for its own volume. The driver that held it has gone; this one does from now on. */
async function keepBoundDevice(
  domain: Domain,
  pool: Pool,
  found: { device: LoopDevice; image: KnownImage; mounts: readonly Mount[] },
): Promise<boolean> {
  const { device, image, mounts } = found;
  if (!mounts.some((mount) => isNodeOf(mount, device))) return false;
  const present = await attachmentOfDevices(domain, [device], {
    volume: image.volume,
    table: mounts,
  });
  return present.mounts.length > 0 && domain.openDevices.open(device, image.id, pool.name);
}

/** Says which block volumes lost their device while no driver held it. Their pods must end: nothing is done about it here. */
async function reportLost(domain: Domain, pool: Pool): Promise<void> {
  const blocks = [...pool.volumes.values()].filter(({ kind }) => kind === 'block');
  const jobs = blocks.map((record) => () => {
    const volume = pool.volumeOf('volumes', record);
    return recoverVolume(domain, pool, record.id, async () => {
      if (bindTargetsIn(await readNodeState(domain, volume)).length === 0) return;
      const { lost } = await attachmentOf(domain, volume);
      if (lost.length === 0) return;
      domain.log.error(
        { volumeId: record.id, targets: targetsOf(lost) },
        'a block volume lost its device; end the pods that use it',
      );
    });
  });
  await runConcurrently(jobs, maxConcurrent);
}

/** Frozen and unmounted looks like this: in use by nobody we see. */
async function thawWithoutMount(
  { host, log }: Domain,
  { device, image }: { device: LoopDevice; image: KnownImage },
): Promise<void> {
  if (image.fsType === null) return;
  try {
    if (await host.mounts.thawWithoutMount(device, image.fsType)) {
      log.warn({ volumeId: image.id }, 'thawed a filesystem left frozen and unmounted');
    }
  } catch (error) {
    // EBUSY: a program has the device, no filesystem.
    const level = hasErrno(error, 'EBUSY') ? 'debug' : 'warn';
    log[level](
      { volumeId: image.id, device: device.path, problem: messageOf(error) },
      'whether a filesystem was left frozen cannot be told',
    );
  }
}

async function sweepTemporary(domain: Domain, pool: Pool): Promise<void> {
  const mounts = await domain.host.mounts.list();
  for (const { target } of mounts.filter((one) => isTemporaryMount(pool, one.target)).reverse()) {
    await logFailure(domain, target, () => domain.host.mounts.unmount(target));
  }
  const left = await domain.host.mounts.list();
  for (const entry of await domain.host.files.list(pool.pathOf('tmp'))) {
    await logFailure(domain, entry, () => sweepEntry(domain, pool, { entry, mounts: left }));
  }
}

/** Where something is mounted still, nothing is removed: those files are a volume's. */
async function sweepEntry(
  domain: Domain,
  pool: Pool,
  { entry, mounts }: { readonly entry: string; readonly mounts: readonly Mount[] },
): Promise<void> {
  const path = pool.pathOf('tmp', entry);
  const busy = mounts.find(({ target }) => target === path || target.startsWith(`${path}/`));
  if (busy !== undefined) {
    domain.log.warn({ target: busy.target }, 'a private mount is in use and stays for now');
    return;
  }
  if (isMountPointName(entry)) await domain.host.files.removeDirectory(path);
  else if (await domain.interruptedCreates.keep(pool, entry)) return;
  else if (await domain.restores.keep(pool, entry)) return;
  else await removeHalfMade(domain.host, path);
  domain.log.info({ pool: pool.name, entry }, 'removed what an interrupted call left half-made');
}

/** Mount points of private mounts, and of earlier versions. */
function isMountPointName(name: string): boolean {
  return /^(?:thaw\.\d+|mount-.+)$/.test(name);
}

/** Mount points in it go first, by rmdir: one that something is mounted on ends the removal before any file is gone. */
async function removeHalfMade({ files }: Host, path: string): Promise<void> {
  const { kind } = await files.status(path);
  for (const name of kind === 'directory' ? await files.list(path) : []) {
    if (isMountPointName(name)) await files.removeDirectory(join(path, name));
  }
  await files.removeTree(path);
}

async function removeOrphanedInline(domain: Domain, pool: Pool): Promise<void> {
  const jobs = [...pool.ephemerals.values()].map((record) => () => {
    const volume = pool.volumeOf('ephemeral', record);
    return recoverVolume(domain, pool, record.name, async () => {
      // One that cannot be looked at, the root of a filesystem that was shut down for example, is there.
      const target = record.ephemeralTarget;
      if (target !== null && (await domain.host.files.exists(target))) return;
      await removeVolume(domain, volume);
    });
  });
  await runConcurrently(jobs, maxConcurrent);
}

/** One thing that cannot be settled must not keep the driver from serving the others. */
async function logFailure(domain: Domain, id: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    domain.log.error({ id, problem: messageOf(error) }, 'a leftover could not be settled');
  }
}
