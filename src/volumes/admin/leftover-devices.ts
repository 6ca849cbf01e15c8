import { VolumeError } from '../../errors.ts';
import { StuckError } from '../../host/errors.ts';
import type { FileIdentity, Host, LoopDevice, Mount } from '../../host/host.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { exposesDevice } from '../../host/mount/loop-mounts.ts';
import { foundName } from '../../ids.ts';
import { poolEntryAt } from '../attachment/device-owner.ts';
import { deletedSuffix, mayBeOfOtherDriver } from '../attachment/foreign-device.ts';
import { describeDeviceUsers } from '../attachment/unmount.ts';
import type { Domain } from '../domain.ts';
import { volumeLock } from '../engine/locks.ts';
import { callIdOf } from '../pool/contents.ts';
import { imageFile, recordAreas } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import type { Found } from './leftover.ts';

/** The loop devices and mounts of the node, read once for a search. */
export interface DeviceTables {
  readonly devices: readonly LoopDevice[];
  readonly mounts: readonly Mount[];
}

/** Loop devices with the driver's label whose image is in the pool, and which nothing uses. */
export async function leftDevices(
  domain: Domain,
  pool: Pool,
  { devices, mounts }: DeviceTables,
): Promise<readonly Found[]> {
  const { host } = domain;
  const found: Found[] = [];
  let owners: ReadonlyMap<string, Owner> | undefined;
  for (const device of devices.filter(isLabelled)) {
    const file = (await host.loops.backingPath(device)) ?? '';
    if (domain.pools.served.find(({ root }) => file.startsWith(`${root}/`)) !== pool) continue;
    if (await mayBeOfOtherDriver(domain, device, { file, pool })) continue;
    const isDeleted = file.endsWith(deletedSuffix) && !(await host.files.exists(file));
    // A device on an entry of `tmp/` belongs to a call, or is detached with the entry.
    const isInTmp = file.startsWith(`${pool.directoryOf('tmp')}/`);
    if (isInTmp && (!isDeleted || domain.operations.runningCount > 0)) continue;
    owners ??= await ownersByImage(host, pool);
    const owner = owners.get(identityOf(device.backing));
    const isMounted = mounts.some((mount) => exposesDevice(mount, device));
    const isInUse = isMounted || (await host.loops.isInUse(device));
    if (owner !== undefined && (isInUse || isLocked(domain, owner))) continue;
    found.push(await leftDevice(domain, { device, file, pool, owner, isDeleted, isInUse }));
  }
  return found;
}

interface DeviceFacts {
  readonly device: LoopDevice;
  /** The path of its image, according to the kernel. */
  readonly file: string;
  readonly pool: Pool;
  readonly owner: Owner | undefined;
  readonly isDeleted: boolean;
  readonly isInUse: boolean;
}

async function leftDevice(domain: Domain, facts: DeviceFacts): Promise<Found> {
  const { device, file, pool, owner, isDeleted, isInUse } = facts;
  const users = isInUse ? await describeDeviceUsers(domain.host, device) : '';
  const left = {
    kind: 'loop-device',
    path: device.path,
    pool: pool.name,
    // The blocks of a file that was deleted are freed when the device is detached.
    bytes: isDeleted ? device.sizeBytes : 0n,
    why:
      owner === undefined
        ? `it is attached to ${file}, which no record names`
        : `it is attached to '${owner.name}', which nothing uses`,
  } as const;
  if (isInUse) {
    return { ...left, remedy: `it is in use${users}; end that, then run the command again` };
  }
  const remedy = owner === undefined ? remedyWithoutOwner(facts) : '';
  if (remedy !== '') return { ...left, remedy };
  return { ...left, remedy: '', remove: () => detachUnderLock(domain, device, owner) };
}

/** What to do about the device of an image that belongs to no volume or snapshot; '' if its content is certainly not needed. */
export function remedyWithoutOwner({
  device,
  file,
  pool,
  isDeleted,
}: Pick<DeviceFacts, 'device' | 'file' | 'pool' | 'isDeleted'>): string {
  const detach = `'losetup --detach ${device.path}'`;
  const { area, entry } = poolEntryAt([pool], file) ?? { area: '', entry: '' };
  const recordArea = recordAreas.find((one) => one === area);
  const name = foundName(entry);
  const record = recordArea && pool.indexOf(recordArea).get(name);
  if (isDeleted && record !== undefined) {
    return `copy ${device.path}, the only copy of the deleted image of '${record.name}', to a file, then run ${detach}`;
  }
  if (isDeleted || area === 'tmp' || area === 'trash') return '';
  // It may be a volume whose record or image cannot be read.
  return `find out what ${file} is; if it is not needed, run ${detach}`;
}

/** The volume or snapshot of an image. */
interface Owner {
  readonly name: string;
  /** The key of the lock that a call on it has. */
  readonly lock: string;
}

function isLocked({ operations }: Domain, { lock }: Owner): boolean {
  return operations.locks.lockedBy(lock) !== undefined;
}

function identityOf({ device, inode }: FileIdentity): string {
  return `${device}:${inode}`;
}

async function ownersByImage(host: Host, pool: Pool): Promise<ReadonlyMap<string, Owner>> {
  const images = [
    ...[...pool.images()].map((image) => ({
      path: image.imagePath,
      owner: { name: image.record.name, lock: volumeLock(callIdOf(image)) },
    })),
    ...[...pool.snapshots.values()].map(({ id, name }) => ({
      path: pool.pathOf('snapshots', id, imageFile),
      owner: { name, lock: `snapshot:${id}` },
    })),
  ];
  const owners = new Map<string, Owner>();
  for (const { path, owner } of images) {
    const image = await host.files.imageStatus(path).catch((error: unknown) => {
      // The other images of a pool that hangs would not answer either.
      if (error instanceof StuckError) throw error;
      return undefined;
    });
    if (image !== undefined) owners.set(identityOf(image), owner);
  }
  return owners;
}

async function detachUnderLock(
  domain: Domain,
  device: LoopDevice,
  owner: Owner | undefined,
): Promise<void> {
  const { locks } = domain.operations;
  const exclusive = owner === undefined ? [] : [owner.lock];
  const release = locks.acquire({ exclusive }, 'RemoveLeftovers');
  try {
    await detachUnused(domain, device);
  } finally {
    release();
  }
}

/**
 * Detaches a device unless it has come into use. Opening it exclusively does not show the bind mount of a raw block volume, so the
 * mounts are read, too. Throws `busy`.
 */
export async function detachUnused(domain: Domain, device: LoopDevice): Promise<void> {
  const { loops, mounts } = domain.host;
  const at = (await mounts.list()).find((mount) => exposesDevice(mount, device));
  if (at !== undefined) {
    throw new VolumeError('busy', `${device.path} has come into use at ${at.target}`);
  }
  if (await loops.isInUse(device)) {
    const users = await describeDeviceUsers(domain.host, device);
    throw new VolumeError('busy', `${device.path} has come into use${users}`);
  }
  domain.openDevices.forget(device);
  if ((await loops.detach(device)) === 'detached') return;
  const users = await describeDeviceUsers(domain.host, device);
  throw new VolumeError('busy', `${device.path} is in use${users}`);
}
