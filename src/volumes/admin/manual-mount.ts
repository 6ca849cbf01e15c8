/** Mounting without an orchestrator: staged in a directory of the driver's own, published where a person says. */
import { join } from 'node:path';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import { attachmentOf } from '../attachment/attachment.ts';
import { isInMountDir } from '../attachment/driver-mounts.ts';
import { readNodeState } from '../attachment/node-state.ts';
import { targetPathOf } from '../attachment/target-path.ts';
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
import { getVolumeFacts, type VolumeFacts } from './inspect.ts';

/** Where this volume is staged by hand; `directory` is the driver's own. */
function stagingPathOf(directory: string, volumeId: string): string {
  return join(directory, volumeId);
}

/** Several paths of one volume may be asked for, so the mode is one that allows that. */
function capabilityOf({ record }: FoundVolume, mountFlags: readonly string[]): Capability {
  const fsType = record.fsType ?? '';
  return { kind: record.kind, fsType, mountFlags, accessMode: 'SINGLE_NODE_MULTI_WRITER' };
}

/** Stages and publishes; repeated, a success. Throws what stage and publish throw, and then leaves nothing staged. */
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
  const targetPath = await targetPathOf(domain, input.targetPath, 'the directory to mount at');
  const stagingTargetPath = stagingPathOf(input.directory, id);
  const capability = capabilityOf(volume, input.mountFlags);
  const { stagedAt } = await getVolumeFacts(domain, id);
  const user = otherUserOf(domain, stagedAt, stagingTargetPath);
  if (user !== undefined) {
    throw new VolumeError(
      'wrong-state',
      `volume '${id}' is in use by ${user} (mounted at ${stagedAt.join(', ')}); stop what uses it there first`,
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
      mayHide: true,
    });
  } catch (error) {
    const told = isConflict(error) ? await otherOptions(domain, volume, targetPath, error) : error;
    await unstageIfUnused(domain, call, { ...input, volumeId: id }).catch((second: unknown) => {
      call.log.warn({ volumeId: id, problem: messageOf(second) }, 'a failed mount left it staged');
    });
    throw told;
  }
}

function isConflict(error: unknown): error is VolumeError {
  return error instanceof VolumeError && error.reason === 'conflict';
}

/** Stage and publish tell of requests that differ; a person mounts, unmounts, and gives options. */
async function otherOptions(
  domain: Domain,
  volume: FoundVolume,
  targetPath: string,
  cause: VolumeError,
): Promise<VolumeError> {
  const { id } = volume.record;
  const { staged, published } = await readNodeState(domain, volume);
  const { publishedAt } = await getVolumeFacts(domain, id);
  const at = publishedAt.includes(targetPath) ? [targetPath] : publishedAt;
  const there = published.find((one) => at.includes(one.targetPath));
  const options = there?.mountFlags ?? staged?.mountFlags ?? [];
  const words = [...(there?.readOnly === true ? ['read-only'] : []), ...options].join(',');
  return new VolumeError(
    'conflict',
    `volume '${id}' is mounted${at.length === 0 ? '' : ` at ${at.join(', ')}`} with other options (${words === '' ? 'none' : words}); ` +
      `unmount it first: loopcsi volume unmount ${volume.record.name}`,
    { cause },
  );
}

/** Who besides a person uses the volume; `byHand` is where a person's mount is staged. */
function otherUserOf(
  domain: Domain,
  stagedAt: readonly string[],
  byHand: string,
): string | undefined {
  if (stagedAt.every((path) => path === byHand)) return undefined;
  return stagedAt.some((path) => isInMountDir(domain, path)) ? 'Docker' : 'an orchestrator';
}

/**
 * Unpublishes at `targetPath`, or everywhere when that is '', and unstages what was staged by hand once nothing uses it. A
 * directory to mount at is a person's: it stays, the empty file a device was bound onto goes. Answers where it was mounted.
 */
export async function unmountManually(
  domain: Domain,
  call: Call,
  input: { readonly directory: string; readonly volumeId: string; readonly targetPath: string },
): Promise<readonly string[]> {
  const inline = domain.pools.findEphemeral(input.volumeId);
  if (inline !== undefined) return endInline(domain, call, inline);
  const { id, kind } = domain.pools.getVolume(input.volumeId).record;
  const { stagedAt, publishedAt } = await getVolumeFacts(domain, id);
  const byHand = stagingPathOf(input.directory, id);
  const user = otherUserOf(domain, stagedAt, byHand);
  if (input.targetPath === '' && user !== undefined) {
    throw new VolumeError(
      'wrong-state',
      `volume '${id}' is in use by ${user} (mounted at ${stagedAt.join(', ')}); stop what uses it there, or name the directory to unmount`,
    );
  }
  const asked =
    input.targetPath === ''
      ? deepestFirst(publishedAt)
      : [await targetPathOf(domain, input.targetPath, 'the directory to unmount')];
  for (const targetPath of asked) {
    await busyWhileInUse(() =>
      unpublishVolume(domain, call, { volumeId: id, targetPath, keepTarget: kind === 'mount' }),
    );
  }
  await unstageIfUnused(domain, call, { directory: input.directory, volumeId: id });
  return asked.filter((path) => publishedAt.includes(path));
}

/** A path below another one is longer. */
function deepestFirst(paths: readonly string[]): readonly string[] {
  return [...paths].sort((a, b) => b.length - a.length);
}

/** What processes use may be free in a moment: a person's command tries that again, as it does what is in progress. */
async function busyWhileInUse(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof VolumeError) || !hasErrno(error.cause, 'EBUSY')) throw error;
    throw new VolumeError('busy', error.message, { cause: error });
  }
}

/** An inline volume ends with its pod. One whose pod is gone without its unpublish call is removed. */
async function endInline(
  domain: Domain,
  call: Call,
  { record }: FoundVolume,
): Promise<readonly string[]> {
  const target = record.ephemeralTarget ?? '';
  if ((await domain.host.mounts.at(target)) !== undefined) {
    throw new VolumeError(
      'wrong-state',
      `volume '${record.name}' is an inline volume of the pod that it is mounted for, at ${target}; delete the pod, and it is deleted too. ` +
        'When there is no such pod any more, unmount it there with umount(8) first',
    );
  }
  await unpublishVolume(domain, call, { volumeId: record.name, targetPath: target });
  return [];
}

async function unstageIfUnused(
  domain: Domain,
  call: Call,
  input: { readonly directory: string; readonly volumeId: string },
): Promise<void> {
  const stagingTargetPath = stagingPathOf(input.directory, input.volumeId);
  const { stagedAt, publishedAt, device } = await getVolumeFacts(domain, input.volumeId);
  if (publishedAt.length > 0 || stagedAt.some((path) => path !== stagingTargetPath)) return;
  if (device !== undefined || stagedAt.length > 0) {
    await unstageVolume(domain, call, { volumeId: input.volumeId, stagingTargetPath });
  }
  await domain.host.files.removeDirectory(stagingTargetPath).catch((error: unknown) => {
    if (!hasErrno(error, 'ENOENT')) throw error;
  });
}

/**
 * Grows promise, image, device and filesystem as far as that can be done now. `atNextMount`: the filesystem takes the size
 * when it is mounted the next time, since it is not mounted, or the kernel lets it not grow in use.
 */
export async function expandAndGrow(
  domain: Domain,
  call: Call,
  input: { readonly volumeId: string; readonly sizeBytes: bigint },
): Promise<{ readonly facts: VolumeFacts; readonly atNextMount: boolean }> {
  const { id } = domain.pools.getVolume(input.volumeId).record;
  const range = { requiredBytes: input.sizeBytes, limitBytes: 0n };
  const { nodeExpansionRequired } = await expandVolume(domain, call, { volumeId: id, range });
  let atNextMount = nodeExpansionRequired;
  const [mount] = (await attachmentOf(domain, domain.pools.getVolume(id))).mounts;
  if (nodeExpansionRequired && mount !== undefined) {
    atNextMount = !(await growInUse(domain, call, {
      volumeId: id,
      range,
      volumePath: mount.target,
    }));
  }
  return { facts: await getVolumeFacts(domain, id), atNextMount };
}

/** Whether it has grown; false when ext4 may not grow while it is in use, and will when it is mounted again. */
async function growInUse(
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
