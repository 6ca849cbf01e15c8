import { VolumeError } from '../../errors.ts';
import type { LoopDevice } from '../../host/host.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { exposesDevice } from '../../host/mount/loop-mounts.ts';
import type { VolumeId } from '../../ids.ts';
import type { Publication } from '../../state/records.ts';
import { attach, keepOpen, keepStagedAttached } from '../attachment/attach.ts';
import {
  type Attachment,
  attachmentOf,
  imageStatusOf,
  mountsAt,
} from '../attachment/attachment.ts';
import { requireMatchingCapability } from '../attachment/capability-fit.ts';
import { limitDevice, requireLimitsApplicable } from '../attachment/io-limits.ts';
import { driverMountPathOf } from '../attachment/mount-dir.ts';
import { lostDeviceError, targetsOf } from '../attachment/mount-errors.ts';
import { requireAllowedMountFlags } from '../attachment/mount-flags.ts';
import {
  readNodeState,
  requireWritableNodeState,
  tryWriteNodeState,
  writeNodeState,
} from '../attachment/node-state.ts';
import { requireNotTruncated } from '../attachment/prepare-image.ts';
import {
  isReadOnly,
  livePublications,
  publicationOf,
  requireSamePublication,
} from '../attachment/publications.ts';
import { stagedNodePath } from '../attachment/staging-path.ts';
import {
  checkedTargetPath,
  ensureTarget,
  requireFreeTarget,
  targetOptions,
} from '../attachment/target-path.ts';
import { changeVolume } from '../change-volume.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import type { AccessMode, PublishInput } from '../model.ts';
import { callIdOf } from '../pool/contents.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { publishInline } from './inline.ts';
import { stageAndPublish } from './without-staging.ts';

/**
 * Access modes that allow only one target path (CSI spec, NodePublishVolume, table for a second call with another target path).
 */
const singleTarget: ReadonlySet<AccessMode> = new Set<AccessMode>([
  'SINGLE_NODE_WRITER',
  'SINGLE_NODE_READER_ONLY',
  'SINGLE_NODE_SINGLE_WRITER',
]);

/**
 * CSI spec, NodePublishVolume: bind mounts the staged filesystem or device node at the target. Throws `wrong-state` if the volume is
 * not staged or its access mode does not allow a second target, `conflict` for the same target with other arguments.
 */
export async function publishVolume(
  domain: Domain,
  call: Call,
  input: PublishInput,
): Promise<void> {
  const targetPath = await checkedTargetPath(domain, input.targetPath, 'target_path');
  if (input.ephemeral !== undefined) {
    await publishInline(domain, call, { ...input, targetPath, ephemeral: input.ephemeral });
    return;
  }
  const { id } = domain.pools.getVolume(input.volumeId).record;
  const stagingTargetPath = await stagingPathOf(domain, id, input);
  if (targetPath === stagingTargetPath || targetPath.startsWith(`${stagingTargetPath}/`)) {
    throw new VolumeError(
      'invalid',
      `volume '${id}': target_path '${targetPath}' is inside staging_target_path '${stagingTargetPath}'; choose a path outside of it`,
    );
  }
  const resolved = { ...input, targetPath, stagingTargetPath };
  const volumeCall = {
    name: 'NodePublishVolume',
    volumeId: id,
    targets: [targetPath],
    request: input,
  };
  await changeVolume(domain, call, volumeCall, async (domain, volume, operation) => {
    requireMatchingCapability(volume, input.capability);
    operation.beginEffects();
    if (domain.settings.withoutStaging) {
      await stageAndPublish(domain, volume, resolved, () => publish(domain, volume, resolved));
    } else await publish(domain, volume, resolved);
  });
}

/** Returns the staging path of the request, or a path in the driver's own directory for callers that do not stage. */
async function stagingPathOf(domain: Domain, id: VolumeId, input: PublishInput): Promise<string> {
  if (domain.settings.withoutStaging) return driverMountPathOf(domain, id);
  if (input.stagingTargetPath === '') {
    throw new VolumeError(
      'wrong-state',
      `volume '${id}': staging_target_path is missing; stage the volume first and pass its staging path`,
    );
  }
  return checkedTargetPath(domain, input.stagingTargetPath, 'staging_target_path');
}

async function publish(domain: Domain, volume: FoundVolume, input: PublishInput): Promise<void> {
  requireAllowedMountFlags(volume.record, input.capability.mountFlags);
  await requireWritableNodeState(domain, volume);
  const attachment = await attachmentOf(domain, volume);
  const device = requireStaged(volume, input, attachment);
  await requireNotTruncated(
    domain,
    volume,
    attachment.image ?? (await imageStatusOf(domain.host.files, volume)),
  );
  const nodeState = await readNodeState(domain, volume);
  const wanted = publicationOf(input, domain.now());
  const published = livePublications(nodeState.published, attachment);
  const top = (await mountsAt(domain.host.mounts, attachment, input.targetPath)).at(-1);
  if (top !== undefined) {
    requireSamePublication(volume, { top, attachment, wanted, published });
    await keepStagedAttached(domain, volume, attachment);
    await recordPodOfEarlierPublish(domain, volume, wanted);
    return;
  }
  const elsewhere = published.filter(({ targetPath }) => targetPath !== wanted.targetPath);
  requireTargetAllowed(volume, wanted, elsewhere);
  const kind = volume.record.kind === 'block' ? 'file' : 'directory';
  if (input.allowNonEmptyTarget !== true)
    await requireFreeTarget(domain.host.files, input.targetPath, kind);
  await ensureTarget(domain, input.targetPath, kind);
  await domain.reached('publish:target-made');
  await writeNodeState(domain, volume, { ...nodeState, published: [...elsewhere, wanted] });
  await domain.reached('publish:recorded');
  if (volume.record.kind === 'block') {
    await bindDevice(domain, volume, { input, attachment, device });
  } else {
    const flags = new Set(input.capability.mountFlags);
    await keepStagedAttached(domain, volume, attachment);
    // The options of the superblock were set when the volume was staged. The options here can differ between targets.
    await domain.host.mounts.bind(input.stagingTargetPath, input.targetPath, {
      readOnly: wanted.readOnly,
      noSuid: flags.has('nosuid'),
      noDev: flags.has('nodev'),
      noExec: flags.has('noexec'),
      ...targetOptions(domain, input.targetPath),
    });
  }
  await domain.reached('publish:mounted');
}

/**
 * Adds the pod to a publication that an earlier version recorded without it. The kubelet repeats its publish calls when it is
 * restarted. A publish succeeds without the pod too: only the metrics and the CLI show it.
 */
async function recordPodOfEarlierPublish(
  domain: Domain,
  volume: FoundVolume,
  { targetPath, pod }: Publication,
): Promise<void> {
  if (pod === undefined) return;
  const nodeState = await readNodeState(domain, volume);
  const isMissing = (one: Publication): boolean =>
    one.targetPath === targetPath && one.pod === undefined;
  if (!nodeState.published.some(isMissing)) return;
  const published = nodeState.published.map((one) => (isMissing(one) ? { ...one, pod } : one));
  await tryWriteNodeState(domain, volume, { ...nodeState, published });
}

/**
 * Bind mounts a device node at the target. A read-only bind mount would not prevent writes to the device, so a read-only publish
 * uses a separate read-only loop device.
 */
async function bindDevice(
  domain: Domain,
  volume: FoundVolume,
  options: { input: PublishInput; attachment: Attachment; device: LoopDevice },
): Promise<void> {
  const { input, attachment } = options;
  const { id } = volume.record;
  let { device } = options;
  await requireLimitsApplicable(domain, `volume '${callIdOf(volume)}'`, volume.record.limits);
  await limitDevice(domain, volume, device);
  if (!(await keepOpen(domain, volume, device)))
    throw lostDeviceError(id, [input.stagingTargetPath]);
  if (isReadOnly(input)) {
    // The driver keeps the device open, so its page cache is not written back to the image by a last close.
    await domain.host.loops.writeBack(device);
    device = await readOnlyDevice(domain, volume, attachment);
    await domain.reached('publish:attached');
  }
  await domain.host.mounts.bind(device.path, input.targetPath, {
    readOnly: isReadOnly(input),
    ...targetOptions(domain, input.targetPath),
  });
}

async function readOnlyDevice(
  domain: Domain,
  volume: FoundVolume,
  { readOnly: device, table }: Attachment,
): Promise<LoopDevice> {
  if (device !== undefined && isLabelled(device) && (await keepOpen(domain, volume, device))) {
    // An earlier call may have attached it and failed before it set the limits.
    await limitDevice(domain, volume, device);
    await domain.host.loops.writeBack(device);
    return device;
  }
  return attach(domain, volume, { readOnly: true, mounts: table });
}

function requireStaged(
  volume: FoundVolume,
  input: PublishInput,
  attachment: Attachment,
): LoopDevice {
  const { id, kind } = volume.record;
  const path = kind === 'block' ? stagedNodePath(input.stagingTargetPath) : input.stagingTargetPath;
  const device = attachment.readWrite;
  const isStaged =
    device !== undefined &&
    attachment.mounts.some((mount) => mount.target === path && exposesDevice(mount, device));
  if (!isStaged && attachment.lost.length > 0)
    throw lostDeviceError(id, targetsOf(attachment.lost));
  if (!isStaged) {
    throw new VolumeError(
      'wrong-state',
      `volume '${id}' is not staged at ${input.stagingTargetPath}; stage it first`,
    );
  }
  return device;
}

function requireTargetAllowed(
  volume: FoundVolume,
  wanted: Publication,
  elsewhere: readonly Publication[],
): void {
  const [other] = elsewhere;
  if (other === undefined) return;
  const single = [wanted, ...elsewhere].find(({ accessMode }) =>
    singleTarget.has(accessMode as AccessMode),
  );
  if (single === undefined) return;
  throw new VolumeError(
    'wrong-state',
    `volume '${volume.record.id}' is already published at ${other.targetPath}, and access mode ${single.accessMode} allows only one target path; ` +
      'use SINGLE_NODE_MULTI_WRITER to share it on this node',
  );
}
