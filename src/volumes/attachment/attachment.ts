import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files, ImageStatus, LoopDevice, Mount, Mounts } from '../../host/host.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { exposesDevice, isFilesystemOn, nodeBindOf } from '../../host/mount/loop-mounts.ts';
import type { NodeState } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { bindTargetsIn, classifyBind } from './device-binds.ts';
import { readNodeState, readNodeStateIfReadable } from './node-state.ts';

/** The kernel's view of one image: its loop devices, found by inode, and their mounts in our mount namespace. */
export interface Attachment {
  /** Status of the image, read before its devices were looked up; undefined if it is gone. */
  readonly image: ImageStatus | undefined;
  readonly readWrite: LoopDevice | undefined;
  readonly readOnly: LoopDevice | undefined;
  readonly devices: readonly LoopDevice[];
  /** Mounts of its filesystem and bind mounts of its device nodes, bottom first. */
  readonly mounts: readonly Mount[];
  /** Bind mounts at the volume's own targets that no longer lead to it, because another process detached its device. */
  readonly lost: readonly Mount[];
  /** Bind mounts at targets of other volumes that lead to this one, because its device has the number of a lost one. */
  readonly exposed: readonly Mount[];
  /** All mounts of our namespace, read at the same time; undefined if they were not needed. */
  readonly table: readonly Mount[] | undefined;
}

/** The mounts at exactly that target, bottom first, from the same mount table. Reads the table if it was not needed before. */
export async function mountsAt(
  mounts: Mounts,
  attachment: Attachment,
  target: string,
): Promise<readonly Mount[]> {
  const table = attachment.table ?? (await mounts.list());
  return table.filter((mount) => mount.target === target);
}

/**
 * Reads the attachment of a volume from the kernel; nothing is cached. With `withTable`, the result always contains the mount
 * table. Throws `unavailable` if the image is gone.
 */
export async function attachmentOf(
  domain: Domain,
  volume: FoundVolume,
  options: { withTable?: boolean } = {},
): Promise<Attachment> {
  const image = await imageStatusOf(domain.host.files, volume);
  const devices = await domain.host.loops.findByImage(image);
  return attachmentOfDevices(domain, devices, { image, volume, ...options });
}

/** Facts about the image that the caller already knows. */
interface KnownImageFacts {
  readonly image?: ImageStatus | undefined;
  readonly volume?: FoundVolume | undefined;
  /** Targets that belong to this volume according to the caller. */
  readonly claimedTargets?: readonly string[] | undefined;
  /** All mounts, if the caller has read them already. */
  readonly table?: readonly Mount[];
  /** Read the mount table even if no device is attached. */
  readonly withTable?: boolean;
  /** Set by unpublish and unstage: a node state that cannot be read from the disk counts as none. */
  readonly isTeardown?: boolean;
}

/** The attachment of an image whose devices are known. */
export async function attachmentOfDevices(
  domain: Domain,
  devices: readonly LoopDevice[],
  known: KnownImageFacts = {},
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
  const byRelation: Record<'live' | 'lost' | 'exposed', Mount[]> = {
    live: [],
    lost: [],
    exposed: [],
  };
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
  const { live: mounts, lost, exposed } = byRelation;
  return {
    image,
    readWrite: preferredDevice(devices, mounts, ({ readOnly }) => !readOnly),
    readOnly: preferredDevice(devices, mounts, ({ readOnly }) => readOnly),
    devices,
    mounts,
    lost,
    exposed,
    table,
  };
}

function hasBindTargets(nodeState: NodeState | undefined): boolean {
  return nodeState !== undefined && bindTargetsIn(nodeState).length > 0;
}

/** Prefers a device that the driver attached, then one that is in use, since another process may have attached the image too. */
function preferredDevice(
  devices: readonly LoopDevice[],
  mounts: readonly Mount[],
  isCandidate: (device: LoopDevice) => boolean,
): LoopDevice | undefined {
  const rank = (device: LoopDevice): number => {
    const isUsed = mounts.some((mount) => exposesDevice(mount, device));
    return (isLabelled(device) ? 2 : 0) + (isUsed ? 1 : 0);
  };
  const [first, ...others] = devices.filter(isCandidate);
  return others.reduce((a, b) => (a !== undefined && rank(a) >= rank(b) ? a : b), first);
}

/** The first mount of the filesystem on the read-write device; undefined if it is not mounted. */
export function filesystemMountOf({ readWrite, mounts }: Attachment): Mount | undefined {
  return readWrite && mounts.find((mount) => isFilesystemOn(mount, readWrite));
}

/** Whether a filesystem is mounted read-only, so that the kernel does not grow it. */
export function isMountedReadOnly({ options, superOptions }: Mount): boolean {
  return options.includes('ro') || superOptions.includes('ro');
}

/** Whether a mount of the volume, filesystem or device node, is at that path. */
export function isMountedAt(attachment: Attachment, path: string): boolean {
  return attachment.mounts.some(
    (mount) =>
      mount.target === path && attachment.devices.some((device) => exposesDevice(mount, device)),
  );
}

export async function imageStatusOf(
  files: Pick<Files, 'imageStatus'>,
  volume: FoundVolume,
): Promise<ImageStatus> {
  try {
    return await files.imageStatus(volume.imagePath);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
    throw new VolumeError(
      'unavailable',
      `volume '${volume.record.id}': its image ${volume.imagePath} is gone, but its record exists; restore the image, or delete the volume`,
      { cause: error },
    );
  }
}
