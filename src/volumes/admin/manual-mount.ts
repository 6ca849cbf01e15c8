/**
 * Manual mounts, without an orchestrator. The volume is staged in a directory of the driver and published at the path that the
 * operator chooses.
 */
import { join } from 'node:path';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import { isLabelled } from '../../host/loop/status.ts';
import type { VolumeId } from '../../ids.ts';
import { formatExactBytes } from '../../units.ts';
import { attachmentOf } from '../attachment/attachment.ts';
import { isInMountDir } from '../attachment/mount-dir.ts';
import { readNodeState } from '../attachment/node-state.ts';
import { checkedTargetPath } from '../attachment/target-path.ts';
import { chooseCapacity } from '../capacity.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import type { Capability } from '../model.ts';
import { nodeExpandVolume } from '../node/expand.ts';
import { publishVolume } from '../node/publish.ts';
import { stageVolume } from '../node/stage.ts';
import { unpublishVolume } from '../node/unpublish.ts';
import { unstageVolume } from '../node/unstage.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { expandVolume } from '../volume/expand.ts';
import { type ForeignMount, getVolumeFacts, type VolumeFacts } from './inspect.ts';

/** Returns the staging path for manual mounts of the volume, below a directory of the driver. */
function stagingPathOf(directory: string, volumeId: VolumeId): string {
  return join(directory, volumeId);
}

/** Returns a capability with an access mode that allows several target paths. */
function capabilityOf({ record }: FoundVolume, mountFlags: readonly string[]): Capability {
  const fsType = record.fsType ?? '';
  return { kind: record.kind, fsType, mountFlags, accessMode: 'SINGLE_NODE_MULTI_WRITER' };
}

/**
 * Stages and publishes the volume. Idempotent. Throws the errors of stage and publish; after an error, the volume is unstaged
 * unless it is in use.
 */
export async function mountManually(
  domain: Domain,
  call: Call,
  input: {
    readonly directory: string;
    readonly volumeId: string;
    readonly targetPath: string;
    readonly readOnly: boolean;
    readonly mountFlags: readonly string[];
  },
): Promise<void> {
  const volume = domain.pools.getVolume(input.volumeId);
  const { id } = volume.record;
  const targetPath = await checkedTargetPath(domain, input.targetPath, 'the directory to mount at');
  const stagingTargetPath = stagingPathOf(input.directory, id);
  const capability = capabilityOf(volume, input.mountFlags);
  const { stagedAt } = await getVolumeFacts(domain, id);
  const user = otherUserOf(domain, stagedAt, stagingTargetPath);
  if (user !== undefined) {
    throw new VolumeError(
      'wrong-state',
      `volume '${id}' is in use by ${user} (mounted at ${stagedAt.join(', ')}); stop its users first`,
    );
  }
  await domain.host.files.makeDirectory(stagingTargetPath);
  try {
    await stageVolume(domain, call, { volumeId: id, stagingTargetPath, capability });
    await publishVolume(domain, call, {
      volumeId: id,
      stagingTargetPath,
      targetPath: input.targetPath,
      capability,
      readOnly: input.readOnly,
      allowNonEmptyTarget: true,
    });
  } catch (error) {
    const cause = isConflict(error)
      ? await conflictError(domain, volume, targetPath, error)
      : error;
    await unstageIfUnused(domain, call, { ...input, volumeId: id }).catch(
      (unstageError: unknown) => {
        call.log.warn(
          { volumeId: id, problem: messageOf(unstageError) },
          'a volume whose mount failed could not be unstaged',
        );
      },
    );
    throw cause;
  }
}

function isConflict(error: unknown): error is VolumeError {
  return error instanceof VolumeError && error.reason === 'conflict';
}

/** Converts the conflict to the terms of the command line, which has mounts and options instead of stage and publish calls. */
async function conflictError(
  domain: Domain,
  volume: FoundVolume,
  targetPath: string,
  cause: VolumeError,
): Promise<VolumeError> {
  const { id } = volume.record;
  const { staged, published } = await readNodeState(domain, volume);
  const { publishedAt } = await getVolumeFacts(domain, id);
  const at = publishedAt.includes(targetPath) ? [targetPath] : publishedAt;
  const publication = published.find((one) => at.includes(one.targetPath));
  const mountFlags = publication?.mountFlags ?? staged?.mountFlags ?? [];
  const options = [...(publication?.readOnly === true ? ['read-only'] : []), ...mountFlags].join(
    ',',
  );
  return new VolumeError(
    'conflict',
    `volume '${id}' is mounted${at.length === 0 ? '' : ` at ${at.join(', ')}`} with other options (${options === '' ? 'none' : options}); ` +
      `unmount it first: loopcsi volume unmount ${volume.record.name}`,
    { cause },
  );
}

/** Returns the user of a volume that is staged at a path other than `manualPath`, the staging path for manual mounts. */
function otherUserOf(
  domain: Domain,
  stagedAt: readonly string[],
  manualPath: string,
): string | undefined {
  if (stagedAt.every((path) => path === manualPath)) return undefined;
  return stagedAt.some((path) => isInMountDir(domain.mountDir, path))
    ? 'Docker'
    : 'an orchestrator';
}

/**
 * Unpublishes the volume at `targetPath`, or everywhere if that is '', and unstages a manually mounted volume after its last
 * unmount. A target directory belongs to the operator and is kept; the empty file on which a device node was mounted is removed.
 * Mounts that no call of the driver made are left alone: throws `wrong-state` with their paths if one is at `targetPath`, if there
 * are no others, or if they keep the volume attached. Returns the paths that were unmounted.
 */
export async function unmountManually(
  domain: Domain,
  call: Call,
  input: { readonly directory: string; readonly volumeId: string; readonly targetPath: string },
): Promise<readonly string[]> {
  const inline = domain.pools.findEphemeral(input.volumeId);
  if (inline !== undefined) return deleteInline(domain, call, inline);
  const { id, kind } = domain.pools.getVolume(input.volumeId).record;
  const { stagedAt, publishedAt, foreignMounts } = await getVolumeFacts(domain, id);
  const user = otherUserOf(domain, stagedAt, stagingPathOf(input.directory, id));
  const isForAll = input.targetPath === '';
  if (isForAll && user !== undefined) {
    throw new VolumeError(
      'wrong-state',
      `volume '${id}' is in use by ${user} (mounted at ${stagedAt.join(', ')}); stop its users, or specify the directory to unmount`,
    );
  }
  const isForeign = (path: string): boolean => foreignMounts.some(({ target }) => target === path);
  const targetPaths = isForAll
    ? deepestFirst(publishedAt).filter((path) => !isForeign(path))
    : [await checkedTargetPath(domain, input.targetPath, 'the directory to unmount')];
  requireNotForeign(
    id,
    foreignMounts.filter(({ target }) => targetPaths.includes(target)),
  );
  for (const targetPath of targetPaths) {
    await reportInUseAsBusy(() =>
      unpublishVolume(domain, call, { volumeId: id, targetPath, keepTarget: kind === 'mount' }),
    );
  }
  await unstageIfUnused(domain, call, { directory: input.directory, volumeId: id });
  if (isForAll)
    requireNotForeign(id, targetPaths.length === 0 ? foreignMounts : attaching(foreignMounts));
  return targetPaths.filter((path) => publishedAt.includes(path));
}

/** Those of the mounts that keep a device attached which the driver would detach. A read-only device of other software stays. */
function attaching(foreignMounts: readonly ForeignMount[]): readonly ForeignMount[] {
  return foreignMounts.filter(({ device }) => device?.readOnly !== true || isLabelled(device));
}

/** Throws `wrong-state` if there is such a mount. */
function requireNotForeign(id: string, foreignMounts: readonly ForeignMount[]): void {
  if (foreignMounts.length === 0) return;
  const paths = foreignMounts.map(({ target }) => target);
  const mounts = foreignMounts.map(({ target, device }) =>
    device === undefined ? target : `${target} (${device.path})`,
  );
  throw new VolumeError(
    'wrong-state',
    `volume '${id}' is mounted at ${mounts.join(', ')}, but neither 'loopcsi volume mount' nor a call of the driver did that; ` +
      `unmount it where that was done, for example with 'umount ${paths.join(' ')}'`,
  );
}

/** A path is longer than its parents, so sorting by length puts nested paths first. */
function deepestFirst(paths: readonly string[]): readonly string[] {
  return [...paths].sort((a, b) => b.length - a.length);
}

/** Reports a mount in use as `busy`, which the command line retries, because the use may end soon. */
async function reportInUseAsBusy(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof VolumeError) || !hasErrno(error.cause, 'EBUSY')) throw error;
    throw new VolumeError('busy', error.message, { cause: error });
  }
}

/** Deletes an inline volume that is not mounted, because its pod was deleted without an unpublish. */
async function deleteInline(
  domain: Domain,
  call: Call,
  { record }: FoundVolume,
): Promise<readonly string[]> {
  const target = record.ephemeralTarget ?? '';
  if ((await domain.host.mounts.at(target)) !== undefined) {
    throw new VolumeError(
      'wrong-state',
      `volume '${record.name}' is the inline volume of a pod and is mounted at ${target}; delete the pod, which deletes the volume too. ` +
        'If the pod no longer exists, unmount the volume with umount(8) first',
    );
  }
  await unpublishVolume(domain, call, { volumeId: record.name, targetPath: target });
  return [];
}

async function unstageIfUnused(
  domain: Domain,
  call: Call,
  input: { readonly directory: string; readonly volumeId: VolumeId },
): Promise<void> {
  const stagingTargetPath = stagingPathOf(input.directory, input.volumeId);
  const facts = await getVolumeFacts(domain, input.volumeId);
  const { stagedAt, publishedAt, foreignMounts, device } = facts;
  const readOnly = foreignMounts.filter((mount) => attaching([mount]).length === 0);
  const others = publishedAt.filter((path) => !readOnly.some(({ target }) => target === path));
  if (others.length > 0 || stagedAt.some((path) => path !== stagingTargetPath)) return;
  if (device !== undefined || stagedAt.length > 0) {
    await unstageVolume(domain, call, { volumeId: input.volumeId, stagingTargetPath });
  }
  await domain.host.files.removeDirectory(stagingTargetPath).catch((error: unknown) => {
    if (!hasErrno(error, 'ENOENT')) throw error;
  });
}

/**
 * Throws `out-of-range` for less than the volume has: an operator who names a smaller size expects it to shrink. A request that was
 * rounded up to the present size is satisfied.
 */
function requireNotSmaller(domain: Domain, { record }: FoundVolume, requiredBytes: bigint): void {
  const { name, fsType, sizeBytes } = record;
  if (requiredBytes >= sizeBytes) return;
  const minBytes = fsType === null ? 0n : domain.host.filesystems[fsType].minGrownBytes;
  const subject = `volume '${name}'`;
  if (chooseCapacity({ requiredBytes, limitBytes: 0n }, { minBytes, subject }) === sizeBytes)
    return;
  throw new VolumeError(
    'out-of-range',
    `${subject} has ${formatExactBytes(sizeBytes)} and cannot shrink to ${formatExactBytes(requiredBytes)}; ` +
      'to get a smaller volume, create one and copy the files',
  );
}

/**
 * Grows the promised size, the image, the device and, if possible, the filesystem. Throws `out-of-range` for a smaller size. `atNextMount`: the filesystem will grow at the
 * next mount, because it is not mounted now or the kernel does not permit it to grow while mounted.
 */
export async function expandManually(
  domain: Domain,
  call: Call,
  input: { readonly volumeId: string; readonly sizeBytes: bigint },
): Promise<{ readonly facts: VolumeFacts; readonly atNextMount: boolean }> {
  const volume = domain.pools.getVolume(input.volumeId);
  requireNotSmaller(domain, volume, input.sizeBytes);
  const { id } = volume.record;
  const range = { requiredBytes: input.sizeBytes, limitBytes: 0n };
  const { remaining } = await expandVolume(domain, call, { volumeId: id, range });
  let atNextMount = remaining !== 'none';
  const [mount] = (await attachmentOf(domain, domain.pools.getVolume(id))).mounts;
  if (remaining === 'node-expand' && mount !== undefined) {
    atNextMount = !(await tryGrowMounted(domain, call, {
      volumeId: id,
      range,
      volumePath: mount.target,
    }));
  }
  return { facts: await getVolumeFacts(domain, id), atNextMount };
}

/** Grows the mounted filesystem. Returns false if an ext4 filesystem can only grow at its next mount. */
async function tryGrowMounted(
  domain: Domain,
  call: Call,
  input: Parameters<typeof nodeExpandVolume>[2],
): Promise<boolean> {
  try {
    await nodeExpandVolume(domain, call, input);
    return true;
  } catch (error) {
    if (error instanceof VolumeError && error.reason === 'wrong-state') return false;
    throw error;
  }
}
