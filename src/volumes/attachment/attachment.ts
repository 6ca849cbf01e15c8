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

/** What the kernel says of one image: its loop devices, found by inode, and where they are mounted in our namespace. */
export interface Attachment {
  /** The image as it was when its devices were looked for; undefined where it is gone. */
  readonly image: ImageStatus | undefined;
  readonly readWrite: LoopDevice | undefined;
  readonly readOnly: LoopDevice | undefined;
  readonly devices: readonly LoopDevice[];
  /** Mounts of its filesystem and binds of its nodes, bottom first. */
  readonly mounts: readonly Mount[];
  /** Binds at its own targets that show it no more: somebody else detached the device. */
  readonly lost: readonly Mount[];
  /** Binds at targets of other volumes that show it: its device has the number of one that was lost. */
  readonly shown: readonly Mount[];
  /** All mounts of our namespace, of the same look; undefined when none was needed. */
  readonly table: readonly Mount[] | undefined;
}

/** The mounts that were at exactly that target in the same look, bottom first. Asks again where none was needed before. */
export async function mountsAt(
  domain: Domain,
  present: Attachment,
  target: string,
): Promise<readonly Mount[]> {
  const table = present.table ?? (await domain.host.mounts.list());
  return table.filter((mount) => mount.target === target);
}

/**
 * Asks the kernel; remembers nothing. `withTable`: its answer has the table of mounts in any case. Throws `unavailable` when the
 * image is gone.
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

/** What is known of the image besides its devices. */
interface About {
  readonly image?: ImageStatus | undefined;
  readonly volume?: FoundVolume | undefined;
  /** Targets that the caller says are this volume's. */
  readonly asked?: readonly string[] | undefined;
  /** All mounts, when they were looked at already. */
  readonly table?: readonly Mount[];
  /** They are looked at in any case. */
  readonly withTable?: boolean;
  /** For unpublish and unstage: notes that cannot be read from the disk count as none. */
  readonly isTeardown?: boolean;
}

/** What the kernel says of these devices of one image. */
export async function attachmentOfDevices(
  domain: Domain,
  devices: readonly LoopDevice[],
  about: About = {},
): Promise<Attachment> {
  const { image, volume, asked = [], isTeardown = false } = about;
  const read = isTeardown ? readNodeStateIfReadable : readNodeState;
  const nodeState = volume?.record.kind === 'block' ? await read(domain, volume) : undefined;
  const isLooked =
    about.withTable === true || devices.length > 0 || asked.length > 0 || isNoted(nodeState);
  const table = about.table ?? (isLooked ? await domain.host.mounts.list() : undefined);
  const seen: Record<'live' | 'lost' | 'shown', Mount[]> = { live: [], lost: [], shown: [] };
  for (const mount of table ?? []) {
    const bind = nodeBindOf(mount);
    if (bind !== undefined) {
      const whose = await classifyBind(domain, bind, { volume, devices, nodeState, asked });
      if (whose !== undefined) seen[whose].push(mount);
    } else if (devices.some((device) => isFilesystemOn(mount, device))) seen.live.push(mount);
  }
  const { live: mounts, lost, shown } = seen;
  return {
    image,
    readWrite: best(devices, mounts, ({ readOnly }) => !readOnly),
    readOnly: best(devices, mounts, ({ readOnly }) => readOnly),
    devices,
    mounts,
    lost,
    shown,
    table,
  };
}

function isNoted(nodeState: NodeRecord | undefined): boolean {
  return nodeState !== undefined && bindTargetsIn(nodeState).length > 0;
}

/** Somebody may have attached the image a second time: the volume's own device is the one that we attached and that is used. */
function best(
  devices: readonly LoopDevice[],
  mounts: readonly Mount[],
  isFit: (device: LoopDevice) => boolean,
): LoopDevice | undefined {
  const rank = (device: LoopDevice): number => {
    const isUsed = mounts.some((mount) => showsDevice(mount, device));
    return (isLabelled(device) ? 2 : 0) + (isUsed ? 1 : 0);
  };
  const [first, ...others] = devices.filter(isFit);
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
      `volume '${volume.record.id}': its image ${volume.imagePath} is gone, its record is there; restore the image, or delete the volume`,
      { cause: error },
    );
  }
}

/**
 * Attaches the image read-write, or answers the device that is there: one per image, ever (design, rule 7). It is held: the
 * caller mounts it with `mountAttached`, or binds its node. Throws `wrong-state` for a device that must not be used.
 */
export async function ensureAttached(
  domain: Domain,
  volume: FoundVolume,
  present: Attachment,
): Promise<LoopDevice> {
  await requireNotShown(domain, volume, present);
  await endOtherDevices(domain, volume, present);
  const { readWrite } = present;
  const isOurs = readWrite !== undefined && isLabelled(readWrite);
  if (isOurs && (await domain.openDevices.open(readWrite, volume.record.id))) return readWrite;
  return attach(domain, volume, { readOnly: false, mounts: present.table });
}

/** Throws `wrong-state` while its device has the number of one that another volume lost: what is done to it is seen there. */
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
    `volume '${id}' is attached to ${device}, a number that volume '${owner}' lost and still has bound at ${shown.map(({ target }) => target).join(', ')}, where its data can be seen; ` +
      `unpublish and unstage '${owner}' first`,
  );
}

/** Two devices that write to one image corrupt it. What somebody else attached must go first, and goes when nobody uses it. */
async function endOtherDevices(
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
        `volume '${id}': somebody else attached its image ${volume.imagePath} to ${device.path}, which is in use${at === undefined ? '' : ` (mounted at ${at})`}; ` +
          `end that, then 'losetup --detach ${device.path}'`,
      );
    }
    await detach(domain, device, id);
    domain.log.warn({ volumeId: id, device: device.path }, 'detached what somebody else attached');
  }
}

/** Attaches a device for the volume, which is held. Read-only: the second one, for a read-only raw block publish. */
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
    domain.openDevices.add(device, record.id);
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
    'the kernel refuses direct I/O for this image (its filesystem needs larger sectors or has none); data is cached twice',
  );
}

/** Detaches a device nobody uses. Throws `busy` when somebody does after all. */
export async function detach(domain: Domain, device: LoopDevice, volumeId: string): Promise<void> {
  domain.openDevices.forget(device);
  const outcome = await domain.host.loops.detach(device);
  if (outcome === 'detached') return;
  const users = await inUseByText(domain.host, device);
  const by = users === '' ? ', perhaps in another mount namespace' : users;
  throw new VolumeError(
    'busy',
    `volume '${volumeId}': ${device.path} is still in use${by}; end what has it open or mounted, then repeat the call`,
  );
}
