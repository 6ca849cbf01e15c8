import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files, LoopDevice } from '../../host/host.ts';
import type { VolumeId } from '../../ids.ts';
import { detach, staysInUse } from '../attachment/attach.ts';
import { type Attachment, attachmentOf, isMountedAt } from '../attachment/attachment.ts';
import { requireMatchingCapability } from '../attachment/capability-fit.ts';
import { driverMountPathOf } from '../attachment/mount-dir.ts';
import { readNodeState, writeNodeState } from '../attachment/node-state.ts';
import { livePublications } from '../attachment/publications.ts';
import { removeTarget, targetOptions } from '../attachment/target-path.ts';
import { unmountVolume } from '../attachment/unmount.ts';
import { changeVolume, withVolumeLock } from '../change-volume.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import type { Capability } from '../model.ts';
import { type StageOptions, stageLocked } from '../node/stage.ts';
import type { FoundVolume } from '../pool/pool.ts';

export interface MountInput {
  readonly volumeId: VolumeId;
  /** Docker's mount ID. Repeated calls with the same ID count once. */
  readonly mountId: string;
}

/** All users of a volume on this node share the one mount in the mount directory. */
const driverMountCapability: Capability = {
  kind: 'mount',
  fsType: '',
  mountFlags: [],
  accessMode: 'SINGLE_NODE_MULTI_WRITER',
};

/**
 * Mounts the volume in the driver's mount directory, unless it is already mounted there, adds the mount ID to the node state, and
 * returns the path. The node state survives restarts of the driver. Throws `wrong-state` if the volume is staged for CSI or has
 * no filesystem.
 */
export async function mountForDocker(
  domain: Domain,
  call: Call,
  input: MountInput,
): Promise<string> {
  const { id } = domain.pools.getVolume(input.volumeId).record;
  const path = driverMountPathOf(domain, id);
  const volumeCall = { name: 'Mount', volumeId: id, request: input };
  await changeVolume(domain, call, volumeCall, async (domain, volume, operation) => {
    requireMatchingCapability(volume, driverMountCapability);
    operation.beginEffects();
    await mount(domain, volume, { path, mountId: input.mountId });
  });
  return path;
}

/** Removes the mount ID. With the last one, the volume is unmounted and detached. Succeeds for an unknown ID or volume. */
export async function unmountForDocker(
  domain: Domain,
  call: Call,
  input: MountInput,
): Promise<void> {
  const volumeCall = { name: 'Unmount', volumeId: input.volumeId, request: input };
  await changeIfExists(domain, call, volumeCall, async (domain, volume, attachment) => {
    const nodeState = await readNodeState(domain, volume);
    const others = nodeState.dockerMountIds.filter((one) => one !== input.mountId);
    if (others.length > 0 && isMountedAt(attachment, driverMountPathOf(domain, volume.record.id))) {
      const left = { ...nodeState, dockerMountIds: others };
      await writeNodeState(domain, volume, left, { strict: true });
      return;
    }
    await unmount(domain, volume, attachment);
    await detachAndForget(domain, volume);
  });
}

/**
 * Unmounts a volume that no container uses according to the kernel. Recorded mount IDs are ignored, because containers may have
 * ended while the driver was not running. Throws `wrong-state` if the volume is in use, and then leaves it mounted.
 */
export async function unmountUnused(domain: Domain, call: Call, volumeId: VolumeId): Promise<void> {
  const volumeCall = { name: 'Remove', volumeId, request: { volumeId } };
  await changeIfExists(domain, call, volumeCall, async (domain, volume, attachment) => {
    const path = driverMountPathOf(domain, volume.record.id);
    await requireNotCsi(domain, volume, attachment, path);
    if (!isMountedAt(attachment, path)) return;
    const { dockerMountIds } = await readNodeState(domain, volume);
    await unmount(domain, volume, attachment);
    const device = attachment.readWrite;
    if (device !== undefined && (await staysInUse(domain, device))) {
      await stageForDocker(domain, volume, path, { isRestage: true });
      const nodeState = await readNodeState(domain, volume);
      await writeNodeState(domain, volume, { ...nodeState, dockerMountIds });
      throw inUseError(volumeId, `${device.path} is mounted by a container or open in a process`);
    }
    await detachAndForget(domain, volume);
  });
}

/** Runs `work` on the locked volume. Does nothing if the volume does not exist on this node. */
async function changeIfExists(
  domain: Domain,
  call: Call,
  volumeCall: { readonly name: string; readonly volumeId: VolumeId; readonly request: unknown },
  work: (domain: Domain, volume: FoundVolume, attachment: Attachment) => Promise<void>,
): Promise<void> {
  const find = (): FoundVolume | undefined => domain.pools.findHere(volumeCall.volumeId);
  await withVolumeLock(domain, call, { ...volumeCall, find }, async (domain, volume, operation) => {
    if (volume === undefined) return;
    operation.beginEffects();
    await work(domain, volume, await attachmentOf(domain, volume));
  });
}

async function mount(
  domain: Domain,
  volume: FoundVolume,
  { path, mountId }: { readonly path: string; readonly mountId: string },
): Promise<void> {
  const attachment = await attachmentOf(domain, volume);
  const isMounted = isMountedAt(attachment, path);
  await requireNotCsi(domain, volume, attachment, path);
  const { dockerMountIds } = await readNodeState(domain, volume);
  // A mount without an ID was made by a call that was interrupted, perhaps before the filesystem was grown.
  if (!isMounted || dockerMountIds.length === 0) {
    await stageForDocker(domain, volume, path);
    await removeEmptyLostAndFound(domain.host.files, volume, path);
  }
  const nodeState = await readNodeState(domain, volume);
  // Mount IDs of a mount that ended without an unmount, for example at a reboot, are stale.
  const others = isMounted ? nodeState.dockerMountIds.filter((one) => one !== mountId) : [];
  const mounted = { ...nodeState, dockerMountIds: [...others, mountId] };
  await writeNodeState(domain, volume, mounted, { strict: true });
  await domain.reached('docker-mount:recorded');
}

function stageForDocker(
  domain: Domain,
  volume: FoundVolume,
  path: string,
  options?: StageOptions,
): Promise<void> {
  const volumeId = volume.record.id;
  const input = { volumeId, stagingTargetPath: path, capability: driverMountCapability };
  return stageLocked(domain, volume, input, options);
}

/**
 * Removes an empty lost+found from a filesystem that has no other content: Docker copies an image's content only into an empty
 * directory, and databases require one. It is removed at each mount, since e2fsck creates it again. ext4 does not need it.
 */
async function removeEmptyLostAndFound(
  files: Files,
  volume: FoundVolume,
  path: string,
): Promise<void> {
  if (volume.record.fsType !== 'ext4') return;
  const entries = await files.list(path);
  if (entries.length !== 1 || entries[0] !== 'lost+found') return;
  try {
    await files.removeDirectory(join(path, 'lost+found'));
  } catch (error) {
    // Files that e2fsck has recovered are kept, and a read-only filesystem is not changed.
    if (!hasErrno(error, 'ENOTEMPTY', 'EROFS')) throw error;
  }
}

/** Throws `wrong-state` with the path if the volume is published, or if it is mounted but not at `path`. */
async function requireNotCsi(
  domain: Domain,
  volume: FoundVolume,
  attachment: Attachment,
  path: string,
): Promise<void> {
  const nodeState = await readNodeState(domain, volume);
  const published = livePublications(nodeState.published, attachment);
  // While the driver's own mount exists, other mounts are Docker's: for example, 'docker cp' temporarily binds a volume into the
  // root of its container.
  const elsewhere = isMountedAt(attachment, path)
    ? []
    : attachment.mounts.map(({ target }) => target);
  const [at] = [...published.map(({ targetPath }) => targetPath), ...elsewhere];
  if (at === undefined) return;
  throw new VolumeError(
    'wrong-state',
    `volume '${volume.record.id}' is in use outside Docker (mounted at ${at}); first stop the pods that use it, or run 'loopcsi volume unmount'`,
  );
}

/** Unmounts the driver's own mount. Bind mounts of it in containers are kept. */
async function unmount(domain: Domain, volume: FoundVolume, attachment: Attachment): Promise<void> {
  const volumeId = volume.record.id;
  const path = driverMountPathOf(domain, volumeId);
  const isFrozen = await domain.guard.prepareUnmount(volumeId);
  for (const { target } of attachment.mounts) {
    if (target !== path) continue;
    try {
      const options = targetOptions(domain, path);
      await unmountVolume(domain.host, { volumeId, target: path, options, isFrozen });
    } catch (error) {
      if (hasErrno(error, 'EBUSY')) throw inUseError(volumeId, `a process has ${path} open`);
      throw error;
    }
  }
  await domain.reached('docker-unmount:unmounted');
}

/**
 * Detaches the volume, unless CSI still has it mounted, and clears its mount IDs. A device that a container still uses stays
 * attached until the next mount, remove or start of the driver.
 */
async function detachAndForget(domain: Domain, volume: FoundVolume): Promise<void> {
  const { id } = volume.record;
  const { devices, mounts } = await attachmentOf(domain, volume);
  // Any remaining mount belongs to CSI, whose unstage thaws and detaches.
  const isUnmounted = mounts.length === 0;
  if (isUnmounted) {
    await domain.guard.thaw(id);
    for (const device of devices) await detachUnlessInUse(domain, device, id);
    domain.guard.forgetExpired(id);
  }
  await domain.reached('docker-unmount:detached');
  const nodeState = await readNodeState(domain, volume);
  const path = driverMountPathOf(domain, id);
  const staged = nodeState.staged?.stagingTargetPath === path ? null : nodeState.staged;
  await writeNodeState(domain, volume, { ...nodeState, staged, dockerMountIds: [] });
  await removeTarget(domain, path);
}

async function detachUnlessInUse(
  domain: Domain,
  device: LoopDevice,
  volumeId: string,
): Promise<void> {
  if (!(await staysInUse(domain, device))) return detach(domain, device, volumeId);
  domain.log.info({ volumeId, device: device.path }, 'a device in use was left attached');
}

function inUseError(id: string, cause: string): VolumeError {
  return new VolumeError(
    'wrong-state',
    `volume '${id}' is in use: ${cause}; stop the containers that use it first`,
  );
}
