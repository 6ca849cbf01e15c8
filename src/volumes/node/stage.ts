import { messageOf, VolumeError } from '../../errors.ts';
import type { FsType } from '../../host/host.ts';
import { nodeBindOf } from '../../host/mount/loop-mounts.ts';
import type { NodeState } from '../../state/records.ts';
import { formatBytes } from '../../units.ts';
import { ensureAttached, ensureDeviceSize, keepStagedAttached } from '../attachment/attach.ts';
import {
  type Attachment,
  attachmentOf,
  filesystemMountOf,
  isMountedReadOnly,
  mountsAt,
} from '../attachment/attachment.ts';
import { areSameArguments, requireMatchingCapability } from '../attachment/capability-fit.ts';
import { isInMountDir } from '../attachment/mount-dir.ts';
import { foreignMountError, lostDeviceError, targetsOf } from '../attachment/mount-errors.ts';
import { requireAllowedMountFlags } from '../attachment/mount-flags.ts';
import { growIfSmaller, mountVolume } from '../attachment/mount-volume.ts';
import {
  readNodeState,
  requireWritableNodeState,
  writeNodeState,
} from '../attachment/node-state.ts';
import { growImageToPromisedSize, isSmaller, recoverImage } from '../attachment/prepare-image.ts';
import { stagedNodePath, stagingPathOfNode } from '../attachment/staging-path.ts';
import { checkedTargetPath, ensureTarget, targetOptions } from '../attachment/target-path.ts';
import { changeVolume } from '../change-volume.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import type { StageInput } from '../model.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { asStagedKind } from './block-as-filesystem.ts';
import { unstageLocked } from './unstage.ts';

/**
 * CSI spec, NodeStageVolume: attaches the volume, checks its superblock and mounts it; never runs mkfs. Completes an interrupted
 * growth. A raw block volume with the filesystem of the request becomes a filesystem volume (ADR 0032). Throws `conflict` if the volume
 * is staged with other arguments, `wrong-state` if it is of another kind or damaged, `busy` if
 * its filesystem cannot grow because its device is in use elsewhere. A stage that fails leaves nothing mounted or attached.
 */
export async function stageVolume(domain: Domain, call: Call, input: StageInput): Promise<void> {
  const stagingTargetPath = await checkedTargetPath(
    domain,
    input.stagingTargetPath,
    'staging_target_path',
  );
  const volumeCall = {
    name: 'NodeStageVolume',
    volumeId: input.volumeId,
    targets: [stagingTargetPath],
    request: input,
  };
  await changeVolume(domain, call, volumeCall, async (domain, volume, operation) => {
    const { capability } = input;
    const staged = await asStagedKind(domain, volume, {
      capability,
      beginEffects: () => operation.beginEffects(),
    });
    requireMatchingCapability(staged, capability);
    operation.beginEffects();
    await stageLocked(domain, staged, { ...input, stagingTargetPath });
  });
}

export interface StageOptions {
  /**
   * The volume is mounted again for users who count it as staged: it stays mounted if it cannot be grown, and a failure is not undone.
   */
  readonly isRestage?: boolean;
}

/** Stages a volume that the caller has locked, at a path that the caller has resolved. Idempotent. */
export async function stageLocked(
  domain: Domain,
  volume: FoundVolume,
  input: StageInput,
  { isRestage = false }: StageOptions = {},
): Promise<void> {
  // An invalid flag is refused before the first effect.
  requireAllowedMountFlags(volume.record, input.capability.mountFlags);
  await requireWritableNodeState(domain, volume);
  const attachment = await attachmentOf(domain, volume, { withTable: true });
  const nodeState = await readNodeState(domain, volume);
  if (await isAlreadyStaged(domain, volume, input, { attachment, nodeState })) {
    await keepStagedAttached(domain, volume, attachment);
    const growth = await finishGrowth(domain, volume, attachment);
    const path = input.stagingTargetPath;
    const isInUse =
      nodeState.dockerMountIds.length > 0 ||
      attachment.mounts.some(({ target }) => target !== path);
    if (growth === 'not-permitted' && !isInUse)
      await growUnmounted(domain, volume, input, () =>
        recordStaging(domain, volume, input, nodeState),
      );
    return;
  }
  await ensureTarget(domain, input.stagingTargetPath, 'directory');
  const { fsType } = volume.record;
  let isBegun = false;
  const record = (): Promise<void> => {
    isBegun = true;
    return recordStaging(domain, volume, input, nodeState);
  };
  try {
    if (fsType === null) await stageBlock(domain, volume, input, { attachment, record });
    else {
      const isInUse = isRestage || attachment.mounts.length > 0;
      await stageFilesystem(domain, volume, input, { fsType, attachment, record, isInUse });
    }
  } catch (error) {
    // Before the record nothing is mounted, and a device in use may belong to other software.
    if (isBegun && !isRestage) await undoStage(domain, volume, input.stagingTargetPath);
    throw error;
  }
}

/** Mounts and grows a filesystem that is not mounted at the staging path. Throws `busy` if it cannot grow, unless it is in use. */
async function stageFilesystem(
  domain: Domain,
  volume: FoundVolume,
  input: StageInput,
  context: {
    readonly fsType: FsType;
    readonly attachment: Attachment;
    readonly isInUse: boolean;
    readonly record: () => Promise<void>;
  },
): Promise<void> {
  const { fsType, attachment, record, isInUse } = context;
  const growth = await mountVolume(domain, volume, input, {
    fsType,
    attachment,
    recordStaging: record,
  });
  if (growth === 'grown' || isInUse) return;
  // Without CAP_SYS_RESOURCE, prepareImage has already tried to grow the filesystem offline.
  if (!domain.host.facts.canGrowExt4Online) throw await notGrownError(domain, volume);
  await growUnmounted(domain, volume, input, record);
}

/**
 * The kernel refused to grow the mounted filesystem, so it is unmounted, grown offline and mounted again. Throws `busy` if it could
 * not grow offline either: the volume must not be published with its old size.
 */
async function growUnmounted(
  domain: Domain,
  volume: FoundVolume,
  input: StageInput,
  recordStaging: () => Promise<void>,
): Promise<void> {
  const { fsType } = volume.record;
  if (fsType === null) return;
  const path = input.stagingTargetPath;
  await domain.host.mounts.unmount(path, targetOptions(domain, path));
  const growth = await mountVolume(domain, volume, input, {
    fsType,
    attachment: await attachmentOf(domain, volume),
    recordStaging,
    growsOffline: true,
  });
  if (growth === 'not-permitted') throw await notGrownError(domain, volume);
}

async function notGrownError(domain: Domain, volume: FoundVolume): Promise<VolumeError> {
  const { id, sizeBytes } = volume.record;
  const { readWrite } = await attachmentOf(domain, volume);
  return new VolumeError(
    'busy',
    `volume '${id}': its filesystem could not be grown to ${formatBytes(sizeBytes)}, because the kernel does not grow it while it is mounted, and ` +
      `${readWrite?.path ?? 'its device'} is in use elsewhere, perhaps in another mount namespace; end the containers and processes that use it, then repeat the call`,
  );
}

/**
 * Unmounts and detaches what a failed stage has mounted and attached, and forgets it: its caller counts the volume as not staged, and
 * may never unstage it. Nothing was mounted at the path before. A failure is only logged.
 */
async function undoStage(domain: Domain, volume: FoundVolume, path: string): Promise<void> {
  try {
    await unstageLocked(domain, volume, path);
  } catch (error) {
    domain.log.warn(
      { volumeId: volume.record.id, path, problem: messageOf(error) },
      'a failed stage could not be undone completely',
    );
  }
}

/** State that is read once for each call. */
interface PresentState {
  readonly attachment: Attachment;
  readonly nodeState: NodeState;
}

/** Throws `conflict` if the volume is staged with other arguments, `wrong-state` if it is staged at another path. */
async function isAlreadyStaged(
  domain: Domain,
  volume: FoundVolume,
  input: StageInput,
  { attachment, nodeState }: PresentState,
): Promise<boolean> {
  const { id } = volume.record;
  const path = input.stagingTargetPath;
  const paths = mountedPaths(attachment);
  const node = stagedNodePath(path);
  // A device node without its device is unmounted later if it is at the staging path. At any other path, a pod may use it and
  // must end first.
  const lost = targetsOf(attachment.lost).filter((target) => target !== node);
  if (lost.length > 0) throw lostDeviceError(id, lost);
  if (!paths.includes(path)) {
    await requireNotForeign(domain, { id, path, attachment });
    if (volume.record.kind === 'block') {
      await requireNotForeign(domain, { id, path: node, attachment });
    }
  }
  const { staged } = nodeState;
  if (staged !== null && staged.stagingTargetPath !== path) {
    if (paths.includes(staged.stagingTargetPath)) {
      throw stagedElsewhereError(domain, id, staged.stagingTargetPath);
    }
    return paths.includes(path);
  }
  if (!paths.includes(path)) return false;
  if (staged === null) return true;
  if (areSameArguments(staged, input.capability)) return true;
  throw new VolumeError(
    'conflict',
    `volume '${id}' is staged at ${path} with other arguments (${staged.accessMode}, flags '${staged.mountFlags.join(',')}'); unstage it first`,
  );
}

function stagedElsewhereError(domain: Domain, id: string, path: string): VolumeError {
  return new VolumeError(
    'wrong-state',
    isInMountDir(domain.mountDir, path)
      ? `volume '${id}' is in use by Docker containers of this machine (mounted at ${path}); stop and remove them first`
      : `volume '${id}' is staged at ${path}; unstage it there first`,
  );
}

/** Throws `wrong-state` if anything else is mounted at the path: the driver never mounts over it. */
async function requireNotForeign(
  domain: Domain,
  { id, path, attachment }: { id: string; path: string; attachment: Attachment },
): Promise<void> {
  const top = (await mountsAt(domain.host.mounts, attachment, path)).at(-1);
  if (top === undefined) return;
  if ([...attachment.mounts, ...attachment.lost].some((mount) => mount.id === top.id)) return;
  throw foreignMountError(id, top);
}

/** Returns the staging and target paths at which the volume's filesystem or device node is mounted. */
function mountedPaths(attachment: Attachment): readonly string[] {
  return attachment.mounts.map((mount) =>
    nodeBindOf(mount) === undefined ? mount.target : stagingPathOfNode(mount.target),
  );
}

async function stageBlock(
  domain: Domain,
  volume: FoundVolume,
  input: StageInput,
  { attachment, record }: { attachment: Attachment; record: () => Promise<void> },
): Promise<void> {
  await recoverImage(domain, volume, attachment.devices);
  await growImageToPromisedSize(domain, volume, attachment.image);
  const device = await ensureAttached(domain, volume, attachment);
  await ensureDeviceSize(domain, device, volume.record.sizeBytes);
  await domain.reached('stage:attached');
  await record();
  const node = stagedNodePath(input.stagingTargetPath);
  for (const { target } of attachment.lost) {
    await domain.host.mounts.unmount(target, targetOptions(domain, target));
  }
  await ensureTarget(domain, node, 'file');
  await domain.host.mounts.bind(device.path, node, {
    readOnly: false,
    ...targetOptions(domain, node),
  });
  await domain.reached('stage:mounted');
}

async function recordStaging(
  domain: Domain,
  volume: FoundVolume,
  input: StageInput,
  nodeState: NodeState,
): Promise<void> {
  const { accessMode, mountFlags, fsType } = input.capability;
  await writeNodeState(domain, volume, {
    ...nodeState,
    staged: {
      stagingTargetPath: input.stagingTargetPath,
      accessMode,
      mountFlags: [...mountFlags],
      fsType,
    },
  });
  await domain.reached('stage:recorded');
}

/** Grows a volume that is staged but too small, because a crash interrupted an earlier call between mount and growth. */
async function finishGrowth(
  domain: Domain,
  volume: FoundVolume,
  attachment: Attachment,
): Promise<'grown' | 'not-permitted'> {
  const { fsType, sizeBytes } = volume.record;
  const device = attachment.readWrite;
  if (device === undefined) return 'grown';
  await growImageToPromisedSize(domain, volume, attachment.image);
  if (fsType === null) {
    await ensureDeviceSize(domain, device, sizeBytes);
    return 'grown';
  }
  const mount = filesystemMountOf(attachment);
  if (mount === undefined) return 'grown';
  const superblock = await domain.host.filesystems[fsType].readSuperblock(volume.imagePath);
  if (superblock === undefined || !isSmaller(superblock, sizeBytes)) return 'grown';
  if (isMountedReadOnly(mount)) return 'not-permitted';
  return growIfSmaller(domain, volume, { device, superblock, target: mount.target });
}
