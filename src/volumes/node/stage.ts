import { join } from 'node:path';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { LoopDevice, Superblock } from '../../host/host.ts';
import type { NodeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { explained } from '../failures.ts';
import type { Capability, StageInput } from '../model.ts';
import type { Call } from '../operations.ts';
import type { FoundVolume } from '../pools/pools.ts';
import {
  type Attachment,
  attachmentOf,
  ensureAttached,
  isMountOf,
  isNodeOf,
  mountsAt,
} from './attachment.ts';
import { damaged, finishImage, isSmaller, makeReady } from './make-ready.ts';
import { mountWords } from './mount-words.ts';
import { readNotes, writeNotes } from './node-notes.ts';
import { isOwnPath } from './own-mount.ts';
import { ensureTarget, targetOptions, targetPathOf } from './target-path.ts';

/** A raw block volume is staged by binding its device node here: the kernel then says so, also after a restart. */
export const stagedNode = 'device';

/**
 * CSI spec, NodeStageVolume: attach, look at the superblock, mount; never mkfs. Finishes a growth that was promised. Throws
 * `conflict` when staged with other arguments, `wrong-state` when the volume is another kind or damaged.
 */
export async function stageVolume(domain: Domain, call: Call, input: StageInput): Promise<void> {
  const volume = domain.pools.getVolume(input.volumeId);
  const { id } = volume.record;
  await domain.operations.run(
    { name: 'NodeStageVolume', owner: id, exclusive: [`volume:${id}`], request: input },
    call,
    async (operation) => {
      // Found again under the lock: it may have been deleted in between.
      const found = domain.pools.getVolume(id);
      requireFits(found, input.capability);
      const stagingTargetPath = await targetPathOf(
        domain,
        input.stagingTargetPath,
        'staging_target_path',
      );
      operation.beginEffects();
      await explained(`volume '${id}'`, found.pool, () =>
        stage(domain, found, { ...input, stagingTargetPath }),
      );
    },
  );
}

/** Throws `reason` when the request is for another kind of volume or filesystem than was made. */
export function requireFits(
  volume: FoundVolume,
  capability: Capability,
  reason: 'wrong-state' | 'invalid' = 'wrong-state',
): void {
  const { id, kind, fsType } = volume.record;
  if (capability.kind !== kind) {
    throw new VolumeError(
      reason,
      `volume '${id}' was made as a ${kind} volume and cannot be used as a ${capability.kind} volume`,
    );
  }
  if (capability.fsType !== '' && capability.fsType !== fsType) {
    throw new VolumeError(
      reason,
      `volume '${id}' holds ${fsType ?? 'no filesystem'}, not ${capability.fsType}; ask for ${fsType ?? 'a block volume'}`,
    );
  }
}

/** The work of NodeStageVolume, under the volume's lock, at a resolved path. Idempotent. */
export async function stage(domain: Domain, volume: FoundVolume, input: StageInput): Promise<void> {
  const words = mountWords(volume.record, input.capability.mountFlags);
  const present = await attachmentOf(domain, volume);
  const notes = await readNotes(domain, volume);
  if (await isStagedAlike(domain, volume, input, { present, notes })) {
    await finishGrowth(domain, volume, present);
    return;
  }
  await ensureTarget(domain, input.stagingTargetPath, 'directory');
  const { fsType } = volume.record;
  if (fsType === null) {
    await stageBlock(domain, volume, input, { present, notes });
    return;
  }
  const filesystem = domain.host.filesystems[fsType];
  const ready = await makeReady(domain, volume, { filesystem, present });
  const { superblock } = ready;
  const device = await ensureAttached(domain, volume, ready.present);
  await domain.reached('stage:attached');
  await noteStaged(domain, volume, input, notes);
  try {
    await domain.host.mounts.mountDevice(device.path, input.stagingTargetPath, {
      fsType,
      options: [...filesystem.mountOptions, ...words],
      ...targetOptions(domain, input.stagingTargetPath),
    });
  } catch (error) {
    await detachQuietly(domain, volume, device);
    throw explainMount(error, volume, { words });
  }
  await domain.reached('stage:mounted');
  await growIfSmaller(domain, volume, { device, superblock, target: input.stagingTargetPath });
}

/** What was looked at once for the whole call. */
interface Looked {
  readonly present: Attachment;
  readonly notes: NodeRecord;
}

/** Whether it is staged there with these arguments. Throws `conflict` when with others, `wrong-state` when elsewhere. */
async function isStagedAlike(
  domain: Domain,
  volume: FoundVolume,
  input: StageInput,
  { present, notes }: Looked,
): Promise<boolean> {
  const { id } = volume.record;
  const path = input.stagingTargetPath;
  const at = stagedAt(present);
  if (!at.includes(path)) await requireNothingForeign(domain, { id, path, present });
  const { staged } = notes;
  if (staged !== null && staged.stagingTargetPath !== path) {
    if (at.includes(staged.stagingTargetPath)) {
      throw stagedElsewhere(domain, id, staged.stagingTargetPath);
    }
    return at.includes(path);
  }
  if (!at.includes(path)) return false;
  if (staged === null) return true;
  const { capability } = input;
  const alike =
    staged.accessMode === capability.accessMode &&
    (staged.fsType === capability.fsType || staged.fsType === '' || capability.fsType === '') &&
    sameFlags(staged.mountFlags, capability.mountFlags);
  if (alike) return true;
  throw new VolumeError(
    'conflict',
    `volume '${id}' is staged at ${path} with other arguments (${staged.accessMode}, flags '${staged.mountFlags.join(',')}'); unstage it first`,
  );
}

function stagedElsewhere(domain: Domain, id: string, path: string): VolumeError {
  return new VolumeError(
    'wrong-state',
    isOwnPath(domain, path)
      ? `volume '${id}' is in use by containers of this machine (mounted at ${path}); stop and remove them first`
      : `volume '${id}' is staged at ${path}; unstage it there first`,
  );
}

/** Throws `wrong-state` when another thing is mounted there: nothing is ever mounted over it. */
async function requireNothingForeign(
  domain: Domain,
  { id, path, present }: { id: string; path: string; present: Attachment },
): Promise<void> {
  const top = (await mountsAt(domain, present, path)).at(-1);
  if (top === undefined) return;
  if (present.devices.some((device) => isMountOf(top, device) || isNodeOf(top, device))) return;
  throw new VolumeError(
    'wrong-state',
    `volume '${id}': something else (${top.source}) is mounted at ${path}; unmount it first`,
  );
}

/** Where the volume's filesystem or device node is mounted now, staging and publish paths alike. */
function stagedAt(present: Attachment): readonly string[] {
  return present.mounts.map(({ target, root }) =>
    root.startsWith('/loop') && target.endsWith(`/${stagedNode}`)
      ? target.slice(0, -stagedNode.length - 1)
      : target,
  );
}

export function sameFlags(a: readonly string[], b: readonly string[]): boolean {
  return [...new Set(a)].sort().join(',') === [...new Set(b)].sort().join(',');
}

async function stageBlock(
  domain: Domain,
  volume: FoundVolume,
  input: StageInput,
  { present, notes }: Looked,
): Promise<void> {
  await finishImage(domain, volume, present.image);
  const device = await ensureAttached(domain, volume, present);
  if (device.sizeBytes < volume.record.sizeBytes) await domain.host.loops.refreshSize(device);
  await domain.reached('stage:attached');
  await noteStaged(domain, volume, input, notes);
  const node = join(input.stagingTargetPath, stagedNode);
  await ensureTarget(domain, node, 'file');
  await domain.host.mounts.bind(device.path, node, {
    readOnly: false,
    ...targetOptions(domain, node),
  });
  await domain.reached('stage:mounted');
}

async function noteStaged(
  domain: Domain,
  volume: FoundVolume,
  input: StageInput,
  notes: NodeRecord,
): Promise<void> {
  const { accessMode, mountFlags, fsType } = input.capability;
  await writeNotes(domain, volume, {
    ...notes,
    staged: {
      stagingTargetPath: input.stagingTargetPath,
      accessMode,
      mountFlags: [...mountFlags],
      fsType,
    },
  });
  await domain.reached('stage:noted');
}

function explainMount(
  error: unknown,
  volume: FoundVolume,
  options: { words: readonly string[] },
): unknown {
  const { words } = options;
  if (hasErrno(error, 'EINVAL') && words.length > 0) {
    return new VolumeError(
      'wrong-state',
      `volume '${volume.record.id}': the kernel refuses to mount it with the options '${words.join(',')}' (${messageOf(error)}); ` +
        'try without them, and see dmesg: when it refuses still, the filesystem is damaged',
      { cause: error },
    );
  }
  if (hasErrno(error, 'EINVAL', 'EUCLEAN', 'EBADMSG', 'EFSCORRUPTED', 'EIO')) {
    return damaged(volume, `the kernel refuses to mount it: ${messageOf(error)}; see dmesg`);
  }
  return error;
}

async function detachQuietly(
  domain: Domain,
  volume: FoundVolume,
  device: LoopDevice,
): Promise<void> {
  const { mounts } = await attachmentOf(domain, volume);
  if (mounts.length > 0) return;
  await domain.host.loops.detach(device).catch((error: unknown) => {
    domain.log.warn(
      { volumeId: volume.record.id, problem: messageOf(error) },
      'a device could not be detached after a failed mount; the next start does it',
    );
  });
}

/** A crash between mount and growth leaves it staged and small; the repeated call goes on. */
async function finishGrowth(
  domain: Domain,
  volume: FoundVolume,
  present: Attachment,
): Promise<void> {
  const { fsType } = volume.record;
  const device = present.readWrite;
  const mount = present.mounts.find((one) => device !== undefined && isMountOf(one, device));
  if (fsType === null || device === undefined || mount === undefined) return;
  const superblock = await domain.host.filesystems[fsType].readSuperblock(volume.imagePath);
  if (superblock === undefined) return;
  await finishImage(domain, volume);
  await growIfSmaller(domain, volume, { device, superblock, target: mount.target });
}

async function growIfSmaller(
  domain: Domain,
  volume: FoundVolume,
  mounted: { device: LoopDevice; superblock: Superblock; target: string },
): Promise<void> {
  const { record } = volume;
  const { device, superblock, target } = mounted;
  if (record.fsType === null || !isSmaller(superblock, record.sizeBytes)) return;
  if (device.sizeBytes < record.sizeBytes) await domain.host.loops.refreshSize(device);
  // A frozen filesystem would grow only when it is thawed.
  await domain.guard.release(record.id);
  const outcome = await domain.host.filesystems[record.fsType].growMounted(
    target,
    device,
    record.sizeBytes,
  );
  if (outcome === 'not-permitted') {
    domain.log.warn(
      { volumeId: record.id },
      'ext4 keeps its old size until it is staged when nobody uses it: growing it in use needs CAP_SYS_RESOURCE',
    );
    return;
  }
  await domain.reached('stage:filesystem-grown');
}
