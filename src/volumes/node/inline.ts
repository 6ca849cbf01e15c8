import { messageOf, VolumeError } from '../../errors.ts';
import { ephemeralIdFor, parseVolumeId } from '../../ids.ts';
import { formatBytes } from '../../units.ts';
import { ensureAttached } from '../attachment/attach.ts';
import { attachmentOf } from '../attachment/attachment.ts';
import { requireAllowedMountFlags } from '../attachment/mount-flags.ts';
import { mountAttached } from '../attachment/mount-volume.ts';
import { readNodeState, writeNodeState } from '../attachment/node-state.ts';
import { prepareImage } from '../attachment/prepare-image.ts';
import {
  isReadOnly,
  livePublications,
  publicationOf,
  requireSamePublication,
} from '../attachment/publications.ts';
import {
  ensureTarget,
  removeTarget,
  requireFreeTarget,
  targetOptions,
} from '../attachment/target-path.ts';
import { chooseCapacity, minBytesOf } from '../capacity.ts';
import { withVolumeLock } from '../change-volume.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import type { Call } from '../engine/operations.ts';
import type { PublishInput } from '../model.ts';
import { podParameters } from '../owner.ts';
import { checkedMountOptions } from '../parameters/mount-options.ts';
import { newVolumeRecord } from '../pool/new-volume-record.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { createEntry } from '../volume/create.ts';
import { detachAndDiscard } from '../volume/delete.ts';

type InlineInput = PublishInput & Required<Pick<PublishInput, 'ephemeral'>>;

/**
 * Publishes an inline volume: creates, attaches and mounts it in one call. If that fails, the volume is deleted again, since the
 * kubelet may not retry. The kubelet chooses the volume's id, which may not be safe as a file name, so the entry in `ephemeral/`
 * is named by a hash.
 */
export async function publishInline(domain: Domain, call: Call, input: InlineInput): Promise<void> {
  const { volumeId, capability } = input;
  if (capability.kind === 'block') {
    throw new VolumeError(
      'invalid',
      `volume '${volumeId}': an inline volume cannot be a block volume`,
    );
  }
  const volumeCall = {
    name: 'NodePublishVolume',
    volumeId,
    targets: [input.targetPath],
    request: input,
    find: () => domain.pools.findEphemeral(volumeId),
  };
  await withVolumeLock(domain, call, volumeCall, async (domain, existing, operation) => {
    if (existing === undefined) {
      const id = parseVolumeId(volumeId);
      if (id !== undefined && domain.pools.hasVolume(id)) throw notInlineError(volumeId);
      await requireFreeTarget(domain.host.files, input.targetPath, 'directory');
      const volume = await createInline(domain, input, () => operation.beginEffects());
      await mountOrDelete(domain, volume, input);
      return;
    }
    if (await isAlreadyPublished(domain, existing, input)) return;
    await requireFreeTarget(domain.host.files, input.targetPath, 'directory');
    operation.beginEffects();
    // The volume is published again, for example after a reboot, so its data is kept even if this call fails.
    await mountInline(domain, existing, input);
  });
}

/** An inline volume must not have the id of another volume, because an unpublish could not distinguish them. */
function notInlineError(volumeId: string): VolumeError {
  return new VolumeError(
    'conflict',
    `volume '${volumeId}' already exists and is not an inline volume; publish that one, or choose another id`,
  );
}

async function mountOrDelete(
  domain: Domain,
  volume: FoundVolume,
  input: InlineInput,
): Promise<void> {
  try {
    await withReason(
      domain,
      { subject: `volume '${input.volumeId}'`, disk: volume.pool },
      async (domain) => {
        await domain.reached('ephemeral:made');
        await mountInline(domain, volume, input);
      },
    );
  } catch (error) {
    await deleteAfterFailure(domain, volume, input.targetPath);
    throw error;
  }
}

async function isAlreadyPublished(
  domain: Domain,
  volume: FoundVolume,
  input: InlineInput,
): Promise<boolean> {
  if (volume.record.ephemeralTarget !== input.targetPath) {
    throw new VolumeError(
      'wrong-state',
      `volume '${input.volumeId}' is published at ${volume.record.ephemeralTarget ?? 'another target'}; an inline volume can only have one target`,
    );
  }
  const top = await domain.host.mounts.at(input.targetPath);
  if (top === undefined) return false;
  const attachment = await attachmentOf(domain, volume);
  const published = livePublications((await readNodeState(domain, volume)).published, attachment);
  requireSamePublication(volume, {
    top,
    attachment,
    wanted: publicationOf(input, domain.now()),
    published,
  });
  return true;
}

/** Creates the volume. The configured limits apply, since any author of a pod can request one. */
async function createInline(
  domain: Domain,
  input: InlineInput,
  beginEffects: () => void,
): Promise<FoundVolume> {
  const { volumeId, capability, ephemeral } = input;
  const subject = `volume '${volumeId}'`;
  const { settings } = domain;
  if (settings.ephemeral.maximumBytes === 0n) throw inlineDisabledError(subject);
  const fsType = capability.fsType === '' ? settings.defaultFsType : capability.fsType;
  const pool = await domain.pools.choose(ephemeral.settings.pool);
  const sizeBytes = chooseCapacity(
    { requiredBytes: ephemeral.sizeBytes ?? settings.ephemeral.defaultBytes, limitBytes: 0n },
    { minBytes: minBytesOf(domain.host.filesystems, fsType), subject },
  );
  if (sizeBytes > settings.ephemeral.maximumBytes)
    throw tooLargeError(settings.ephemeral.maximumBytes, { sizeBytes, subject });
  const record = newVolumeRecord({
    id: ephemeralIdFor(volumeId, settings.nodeTag),
    input: {
      name: volumeId,
      range: { requiredBytes: sizeBytes, limitBytes: 0n },
      kind: 'mount',
      fsType,
      settings: ephemeral.settings,
      parameters: input.pod === undefined ? {} : podParameters(input.pod),
      source: null,
    },
    sizeBytes,
    mountOptions: checkedMountOptions(fsType, capability),
    createdAtMs: domain.now(),
    ephemeralTarget: input.targetPath,
  });
  beginEffects();
  const release = reserveInlineBytes(pool, settings.ephemeral.poolCapBytes, { sizeBytes, subject });
  try {
    return pool.volumeOf('ephemeral', await createEntry(domain, pool, record));
  } finally {
    release();
  }
}

function inlineDisabledError(subject: string): VolumeError {
  return new VolumeError(
    'unsupported',
    `${subject}: inline volumes are disabled on this node; use a claim or an ephemeral.volumeClaimTemplate, or ask the operator to enable them (--ephemeral-max-size, driver.ephemeral.enabled in the chart)`,
  );
}

interface SizeRequest {
  readonly sizeBytes: bigint;
  readonly subject: string;
}

function tooLargeError(maximumBytes: bigint, { sizeBytes, subject }: SizeRequest): VolumeError {
  return new VolumeError(
    'out-of-range',
    `${subject}: ${formatBytes(sizeBytes)} is more than the maximum of ${formatBytes(maximumBytes)} for an inline volume (--ephemeral-max-size); use a claim instead`,
  );
}

/**
 * Counts the bytes towards the limit of inline volumes in the pool. Synchronous, so that concurrent calls cannot both use the
 * last bytes.
 */
function reserveInlineBytes(
  pool: Pool,
  poolCapBytes: bigint,
  { sizeBytes, subject }: SizeRequest,
): () => void {
  let usedBytes = pool.inlineBytesInFlight;
  for (const record of pool.ephemerals.values()) usedBytes += record.sizeBytes;
  if (usedBytes + sizeBytes > poolCapBytes) {
    throw new VolumeError(
      'no-space',
      `${subject}: inline volumes in pool '${pool.name}' use ${formatBytes(usedBytes)} of at most ${formatBytes(poolCapBytes)} (--ephemeral-pool-cap), too much for ${formatBytes(sizeBytes)} more; delete pods with inline volumes, or use a claim instead`,
    );
  }
  pool.inlineBytesInFlight += sizeBytes;
  return () => {
    pool.inlineBytesInFlight -= sizeBytes;
  };
}

async function mountInline(domain: Domain, volume: FoundVolume, input: InlineInput): Promise<void> {
  const { record } = volume;
  if (record.fsType === null) throw new Error(`inline volume '${record.name}' has no filesystem`);
  requireAllowedMountFlags(record, input.capability.mountFlags);
  const wanted = publicationOf(input, domain.now());
  const filesystem = domain.host.filesystems[record.fsType];
  const before = await attachmentOf(domain, volume);
  const { attachment } = await prepareImage(domain, volume, { filesystem, attachment: before });
  const device = await ensureAttached(domain, volume, attachment);
  await domain.reached('publish:attached');
  await writeNodeState(domain, volume, {
    schemaVersion: 1,
    staged: null,
    published: [wanted],
    dockerMountIds: [],
  });
  await domain.reached('publish:recorded');
  await ensureTarget(domain, input.targetPath, 'directory');
  await domain.reached('publish:target-made');
  await mountAttached(domain, volume, {
    fsType: record.fsType,
    device,
    target: input.targetPath,
    mountFlags: input.capability.mountFlags,
    isReadOnly: isReadOnly(input),
  });
  await domain.reached('publish:mounted');
}

async function deleteAfterFailure(
  domain: Domain,
  volume: FoundVolume,
  targetPath: string,
): Promise<void> {
  try {
    const { mounts } = await attachmentOf(domain, volume);
    if (mounts.some((mount) => mount.target === targetPath)) {
      await domain.host.mounts.unmount(targetPath, targetOptions(domain, targetPath));
    }
    await detachAndDiscard(domain, volume);
    await removeTarget(domain, targetPath);
  } catch (error) {
    domain.log.warn(
      { volumeId: volume.record.name, problem: messageOf(error) },
      'an inline volume could not be deleted after its publish failed; the next start deletes it',
    );
  }
}
