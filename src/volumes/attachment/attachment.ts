import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { ImageStatus, LoopDevice, Mount } from '../../host/host.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { isFilesystemOn, isNodeOf, nodeBindOf, showsDevice } from '../../host/mount/loop-mounts.ts';
import type { NodeRecord, VolumeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { toVolumeError } from '../engine/failures.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { dirtyLimitBytes, isFreezable } from '../pool/thresholds.ts';
import { inUseByText } from './busy-mount.ts';
import { bindTargetsIn, classifyBind, ownersOf } from './device-binds.ts';
import { readNodeState, readNodeStateIfReadable } from './node-state.ts';

/** The kernel's view of one image: its loop devices, found by inode, and their mounts in our mount namespace. */
export interface Attachment {
  /** Status of the image when its devices were searched for; undefined if it is gone. */
  readonly image: ImageStatus | undefined;
  readonly readWrite: LoopDevice | undefined;
  readonly readOnly: LoopDevice | undefined;
  readonly devices: readonly LoopDevice[];
  /** Mounts of its filesystem and bind mounts of its device nodes, bottom first. */
  readonly mounts: readonly Mount[];
  /** Bind mounts at its own targets that no longer show it, because another process detached its device. */
  readonly lost: readonly Mount[];
  /** Bind mounts at targets of other volumes that show it, because its device has the number of a lost one. */
  readonly shown: readonly Mount[];
  /** All mounts of our namespace, read at the same time; undefined if they were not needed. */
  readonly table: readonly Mount[] | undefined;
}

/** The mounts at exactly that target, bottom first, from the same mount table. Reads the table if that was not needed before. */
export async function mountsAt(
  domain: Domain,
  present: Attachment,
  target: string,
): Promise<readonly Mount[]> {
  const table = present.table ?? (await domain.host.mounts.list());
  return table.filter((mount) => mount.target === target);
}

/**
 * Reads the attachment of a volume from the kernel; nothing is cached. `withTable`: the result always has the mount table. Throws
 * `unavailable` if the image is gone.
 */
export async function attachmentOf(
  domain: Domain,
  volume: FoundVolume,
  options: { withTable?: boolean } = {},
): Promise<Attachment> {
  const image = await imageStatusOf(domain, volume);
  const devices = await domain.host.loops.findByImage(image);
  return attachmentOfDevices(domain, devices, { image, volume, ...options });
}

/** What the caller already knows about the image. */
interface KnownOfImage {
  readonly image?: ImageStatus | undefined;
  readonly volume?: FoundVolume | undefined;
  /** Targets that belong to this volume according to the caller. */
  readonly claimedTargets?: readonly string[] | undefined;
  /** All mounts, if the caller has read them already. */
  readonly table?: readonly Mount[];
  /** Read the mount table even if no device is attached. */
  readonly withTable?: boolean;
  /** For unpublish and unstage: a node state that cannot be read from the disk counts as none. */
  readonly isTeardown?: boolean;
}

/** The attachment of an image whose devices are known. */
export async function attachmentOfDevices(
  domain: Domain,
  devices: readonly LoopDevice[],
  known: KnownOfImage = {},
): Promise<Attachment> {
  const { image, volume, claimedTargets = [], isTeardown = false } = known;
  const read = isTeardown ? readNodeStateIfReadable : readNodeState;
  const nodeState = volume?.record.kind === 'block' ? await read(domain, volume) : undefined;
  const needsTable =
    known.withTable === true ||
    devices.length > 0 ||
    claimedTargets.length > 0 ||
    hasBindTargets(nodeState);
  const table = known.table ?? (needsTable ? await domain.host.mounts.list() : undefined);
  const byRelation: Record<'live' | 'lost' | 'shown', Mount[]> = { live: [], lost: [], shown: [] };
  for (const mount of table ?? []) {
    const bind = nodeBindOf(mount);
    if (bind !== undefined) {
      const relation = await classifyBind(domain, bind, {
        volume,
        devices,
        nodeState,
        claimedTargets,
      });
      if (relation !== undefined) byRelation[relation].push(mount);
    } else if (devices.some((device) => isFilesystemOn(mount, device))) byRelation.live.push(mount);
  }
  const { live: mounts, lost, shown } = byRelation;
  return {
    image,
    readWrite: preferredDevice(devices, mounts, ({ readOnly }) => !readOnly),
    readOnly: preferredDevice(devices, mounts, ({ readOnly }) => readOnly),
    devices,
    mounts,
    lost,
    shown,
    table,
  };
}

function hasBindTargets(nodeState: NodeRecord | undefined): boolean {
  return nodeState !== undefined && bindTargetsIn(nodeState).length > 0;
}

/** Another process may have attached the image too: prefers a device that we attached, then one that is in use. */
function preferredDevice(
  devices: readonly LoopDevice[],
  mounts: readonly Mount[],
  isCandidate: (device: LoopDevice) => boolean,
): LoopDevice | undefined {
  const rank = (device: LoopDevice): number => {
    const isUsed = mounts.some((mount) => showsDevice(mount, device));
    return (isLabelled(device) ? 2 : 0) + (isUsed ? 1 : 0);
  };
  const [first, ...others] = devices.filter(isCandidate);
  return others.reduce((a, b) => (a !== undefined && rank(a) >= rank(b) ? a : b), first);
}

/** Whether a mount of the volume, filesystem or device node, is at that path. */
export function isMountedAt(present: Attachment, path: string): boolean {
  return present.mounts.some(
    (mount) =>
      mount.target === path && present.devices.some((device) => showsDevice(mount, device)),
  );
}

export async function imageStatusOf(domain: Domain, volume: FoundVolume) {
  try {
    return await domain.host.files.imageStatus(volume.imagePath);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
    throw new VolumeError(
      'unavailable',
      `volume '${volume.record.id}': its image ${volume.imagePath} is gone, but its record exists; restore the image, or delete the volume`,
      { cause: error },
    );
  }
}

/**
 * Attaches the image read-write, or returns the device that exists: an image never has two (design, rule 7). The driver keeps
 * the device open until the caller mounts it with `mountAttached` or byRelation its node. Throws `wrong-state` for a device that
 * must not be used.
 */
export async function ensureAttached(
  domain: Domain,
  volume: FoundVolume,
  present: Attachment,
): Promise<LoopDevice> {
  await requireNotShown(domain, volume, present);
  await detachForeignDevices(domain, volume, present);
  const { readWrite } = present;
  const isOurs = readWrite !== undefined && isLabelled(readWrite);
  if (isOurs && (await domain.openDevices.open(readWrite, volume.record.id, volume.pool.name)))
    return readWrite;
  return attach(domain, volume, { readOnly: false, mounts: present.table });
}

/** Throws `wrong-state` while its device has the number of one that another volume lost: its data can be seen at that volume's targets. */
async function requireNotShown(
  domain: Domain,
  volume: FoundVolume,
  { shown, devices }: Attachment,
): Promise<void> {
  const [bind] = shown;
  if (bind === undefined) return;
  const { id } = volume.record;
  const [owner = 'another volume'] = await ownersOf(domain, bind.target, id);
  const device = devices.find((one) => isNodeOf(bind, one))?.path ?? bind.root;
  throw new VolumeError(
    'wrong-state',
    `volume '${id}' is attached to ${device}; volume '${owner}' lost a device of that number and still has it bound at ${shown.map(({ target }) => target).join(', ')}, where the data of '${id}' can be seen; ` +
      `unpublish and unstage '${owner}' first`,
  );
}

/** Two devices that write to one image corrupt it. Detaches foreign devices, and throws `wrong-state` if one is in use. */
async function detachForeignDevices(
  domain: Domain,
  volume: FoundVolume,
  { devices, readWrite, mounts }: Attachment,
): Promise<void> {
  const { id } = volume.record;
  for (const device of devices) {
    if (device.readOnly || (device === readWrite && isLabelled(device))) continue;
    const at = mounts.find((mount) => showsDevice(mount, device))?.target;
    if (at !== undefined || (await domain.host.loops.isInUse(device))) {
      throw new VolumeError(
        'wrong-state',
        `volume '${id}': another process attached its image ${volume.imagePath} to ${device.path}, which is in use${at === undefined ? '' : ` (mounted at ${at})`}; ` +
          `end that use, then run 'losetup --detach ${device.path}'`,
      );
    }
    await detach(domain, device, id);
    domain.log.warn(
      { volumeId: id, device: device.path },
      'a device that another process attached was detached',
    );
  }
}

/** Attaches a device for the volume and keeps it open. `readOnly`: the second device, for a read-only raw block publish. */
export async function attach(
  domain: Domain,
  volume: FoundVolume,
  options: { readOnly: boolean; mounts?: readonly Mount[] | undefined },
): Promise<LoopDevice> {
  const { record } = volume;
  try {
    const device = await domain.host.loops.attach(volume.imagePath, {
      sectorSize: record.sectorSize,
      readOnly: options.readOnly,
      directIo: record.directIo,
      discard: record.provisioning === 'thin' && record.trim !== 'off',
      label: record.id,
      hold: true,
      mounts: options.mounts,
      ...(isFreezable(volume.pool, record) && !options.readOnly ? { dirtyLimitBytes } : {}),
    });
    domain.openDevices.add(device, record.id, volume.pool.name);
    warnOfBufferedIo(domain, record, device);
    return device;
  } catch (error) {
    throw await toVolumeError(error, `volume '${record.id}': cannot attach its image`, volume.pool);
  }
}

function warnOfBufferedIo(domain: Domain, record: VolumeRecord, device: LoopDevice): void {
  if (!record.directIo || device.directIo) return;
  domain.log.warn(
    { volumeId: record.id, device: device.path, sectorSize: record.sectorSize },
    'the kernel refused direct I/O for an image, whose filesystem needs larger sectors or does not support it; its data is cached twice',
  );
}

/** Detaches an unused device. Throws `busy` if it turns out to be in use. */
export async function detach(domain: Domain, device: LoopDevice, volumeId: string): Promise<void> {
  domain.openDevices.forget(device);
  const outcome = await domain.host.loops.detach(device);
  if (outcome === 'detached') return;
  const users = await inUseByText(domain.host, device);
  const by = users === '' ? ', perhaps in another mount namespace' : users;
  throw new VolumeError(
    'busy',
    `volume '${volumeId}': ${device.path} is still in use${by}; end the processes and mounts that use it, then repeat the call`,
  );
}
