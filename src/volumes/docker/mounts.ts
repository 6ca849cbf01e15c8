import { VolumeError } from '../../errors.ts';
import { type Attachment, attachmentOf, isMountedAt } from '../attachment/attachment.ts';
import { requireMatchingCapability } from '../attachment/capability-fit.ts';
import {
  driverMountCapability,
  driverMountPathOf,
  removeEmptyLostAndFound,
} from '../attachment/driver-mounts.ts';
import { readNodeState, writeNodeState } from '../attachment/node-state.ts';
import { livePublications } from '../attachment/publications.ts';
import { changeVolume } from '../change-volume.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import { stage } from '../node/stage.ts';
import type { FoundVolume } from '../pool/pool.ts';

export interface HoldInput {
  readonly volumeId: string;
  /** Whoever holds the mount, in words of its own; the same holder counts once. */
  readonly holder: string;
}

/**
 * Mounts the volume in the driver's own directory for one more holder, and answers the path. Who holds it is remembered as
 * long as it is mounted, over restarts of the driver. Throws `wrong-state` when it is staged for CSI or is no filesystem.
 */
export async function holdVolume(domain: Domain, call: Call, input: HoldInput): Promise<string> {
  const { id } = domain.pools.getVolume(input.volumeId).record;
  const path = driverMountPathOf(domain, id);
  const asked = { name: 'Mount', volumeId: id, request: input };
  await changeVolume(domain, call, asked, async (volume, operation) => {
    requireMatchingCapability(volume, driverMountCapability);
    operation.beginEffects();
    await hold(domain, volume, { path, holder: input.holder });
  });
  return path;
}

async function hold(
  domain: Domain,
  volume: FoundVolume,
  wanted: { path: string; holder: string },
): Promise<void> {
  const { path, holder } = wanted;
  const present = await attachmentOf(domain, volume);
  const isHeld = isMountedAt(present, path);
  await requireNotCsi(domain, volume, present, path);
  if (!isHeld) {
    await stage(domain, volume, {
      volumeId: volume.record.id,
      stagingTargetPath: path,
      capability: driverMountCapability,
    });
    await removeEmptyLostAndFound(domain.host.files, volume, path);
  }
  const nodeState = await readNodeState(domain, volume);
  // Holders of a mount that has gone, with a reboot for example, hold nothing.
  const others = isHeld ? nodeState.dockerMountIds.filter((one) => one !== holder) : [];
  const held = { ...nodeState, dockerMountIds: [...others, holder] };
  await writeNodeState(domain, volume, held, { strict: true });
  await domain.reached('hold:noted');
}

/** Throws `wrong-state`, with the place, when it is published, or mounted without being so at `path`, the driver's own. */
export async function requireNotCsi(
  domain: Domain,
  volume: FoundVolume,
  present: Attachment,
  path: string,
): Promise<void> {
  const nodeState = await readNodeState(domain, volume);
  const published = livePublications(nodeState.published, present).map(
    ({ targetPath }) => targetPath,
  );
  // Beside a mount of our own they are Docker's: 'docker cp' binds a volume into the root of its container meanwhile.
  const elsewhere = isMountedAt(present, path) ? [] : present.mounts.map(({ target }) => target);
  const [at] = [...published, ...elsewhere];
  if (at === undefined) return;
  throw new VolumeError(
    'wrong-state',
    `volume '${volume.record.id}' is in use outside Docker (mounted at ${at}); end the pods that use it, or 'loopcsi volume unmount' it, first`,
  );
}
