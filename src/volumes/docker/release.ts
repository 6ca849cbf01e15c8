import { setTimeout as delay } from 'node:timers/promises';
import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { LoopDevice } from '../../host/host.ts';
import { type Attachment, attachmentOf, detach, isMountedAt } from '../attachment/attachment.ts';
import { unmountVolume } from '../attachment/busy-mount.ts';
import { driverMountCapability, driverMountPathOf } from '../attachment/driver-mounts.ts';
import { readNodeState, writeNodeState } from '../attachment/node-state.ts';
import { removeTarget, targetOptions } from '../attachment/target-path.ts';
import { lockVolume } from '../change-volume.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import { stage } from '../node/stage.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { type HoldInput, requireNotCsi } from './mounts.ts';

const settleMs = 2_000;
const settleStepMs = 20;

/** Forgets the holder; with the last one the volume is unmounted and detached. A holder or volume nobody knows is fine. */
export async function releaseVolume(domain: Domain, call: Call, input: HoldInput): Promise<void> {
  await underLock(domain, call, { name: 'Unmount', ...input }, async (volume, present) => {
    const nodeState = await readNodeState(domain, volume);
    const others = nodeState.dockerMountIds.filter((one) => one !== input.holder);
    if (others.length > 0 && isMountedAt(present, driverMountPathOf(domain, volume.record.id))) {
      await writeNodeState(
        domain,
        volume,
        { ...nodeState, dockerMountIds: others },
        { strict: true },
      );
      return;
    }
    await unmountOwn(domain, volume, present);
    await letGo(domain, volume);
  });
}

/**
 * Unmounts what only forgotten holders hold: whether a container still uses the volume is asked from the kernel, since
 * holders may have ended while the driver was away. Throws `wrong-state` when it is in use, and leaves it mounted then.
 */
export async function releaseUnused(domain: Domain, call: Call, volumeId: string): Promise<void> {
  await underLock(domain, call, { name: 'Remove', volumeId }, async (volume, present) => {
    const { id } = volume.record;
    const path = driverMountPathOf(domain, id);
    await requireNotCsi(domain, volume, present, path);
    if (!isMountedAt(present, path)) return;
    const { dockerMountIds } = await readNodeState(domain, volume);
    await unmountOwn(domain, volume, present);
    const device = present.readWrite;
    if (device !== undefined && (await staysInUse(domain, device))) {
      await stage(domain, volume, {
        volumeId: id,
        stagingTargetPath: path,
        capability: driverMountCapability,
      });
      await writeNodeState(domain, volume, {
        ...(await readNodeState(domain, volume)),
        dockerMountIds,
      });
      throw inUse(id, `${device.path} is mounted by a container or held by a process`);
    }
    await letGo(domain, volume);
  });
}

async function underLock(
  domain: Domain,
  call: Call,
  asked: { name: string; volumeId: string },
  work: (volume: FoundVolume, present: Attachment) => Promise<void>,
): Promise<void> {
  const { name, volumeId } = asked;
  const find = (): FoundVolume | undefined => domain.pools.findHere(volumeId);
  const frame = { name, volumeId, request: asked, find };
  await lockVolume(domain, call, frame, async (volume, operation) => {
    if (volume === undefined) return;
    operation.beginEffects();
    await work(volume, await attachmentOf(domain, volume));
  });
}

/** Takes the driver's own mount away. What containers mounted from it is theirs and stays. */
async function unmountOwn(domain: Domain, volume: FoundVolume, present: Attachment): Promise<void> {
  const path = driverMountPathOf(domain, volume.record.id);
  const volumeId = volume.record.id;
  const isFrozen = await domain.guard.giveWay(volumeId);
  for (const mount of present.mounts) {
    if (mount.target !== path) continue;
    try {
      const options = targetOptions(domain, path);
      await unmountVolume(domain.host, { volumeId, target: path, options, isFrozen });
    } catch (error) {
      if (hasErrno(error, 'EBUSY')) throw inUse(volumeId, `something has ${path} open`);
      throw error;
    }
  }
  await domain.reached('release:unmounted');
}

/** Detaches what nobody uses, and forgets. A device that a container still holds is left to the next mount, remove or start. */
async function letGo(domain: Domain, volume: FoundVolume): Promise<void> {
  const { id } = volume.record;
  const { devices, mounts } = await attachmentOf(domain, volume);
  if (mounts.length === 0) await domain.guard.release(id);
  // Mounts that are left are CSI's; its unstage detaches.
  for (const device of mounts.length > 0 ? [] : devices) {
    if (await staysInUse(domain, device)) {
      domain.log.info(
        { volumeId: id, device: device.path },
        'a device stays attached: it is in use',
      );
    } else {
      await detach(domain, device, id);
    }
  }
  if (mounts.length === 0) domain.guard.forget(id);
  await domain.reached('release:detached');
  const nodeState = await readNodeState(domain, volume);
  const path = driverMountPathOf(domain, id);
  const staged = nodeState.staged?.stagingTargetPath === path ? null : nodeState.staged;
  await writeNodeState(domain, volume, { ...nodeState, staged, dockerMountIds: [] });
  await removeTarget(domain, path);
}

/** An unmount ends in the background, and a container's mounts end with its last process: a moment is waited for that. */
async function staysInUse(domain: Domain, device: LoopDevice): Promise<boolean> {
  const end = performance.now() + settleMs;
  while (await domain.host.loops.isInUse(device)) {
    if (performance.now() > end) return true;
    await delay(settleStepMs);
  }
  return false;
}

function inUse(id: string, why: string): VolumeError {
  return new VolumeError(
    'wrong-state',
    `volume '${id}' is in use: ${why}; stop the containers that use it first`,
  );
}
