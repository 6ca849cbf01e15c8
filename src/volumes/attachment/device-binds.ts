import type { LoopDevice } from '../../host/host.ts';
import { isLabelled } from '../../host/loop/status.ts';
import type { NodeBind } from '../../host/mount/loop-mounts.ts';
import type { NodeState } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { isAttachedTo, volumeAttachedTo } from './device-owner.ts';
import { readNodeState } from './node-state.ts';
import { stagedNodePath } from './staging-path.ts';

/**
 * Bind mounts of device nodes. Such a mount leads to whatever is attached to its device number: it neither keeps the device
 * attached nor identifies the volume. It belongs to the volume whose node state lists its target; the device number only shows
 * whether it still leads to that volume.
 */

/** Targets at which the device nodes of a block volume are bound, according to its node state. */
export function bindTargetsIn({ staged, published }: NodeState): readonly string[] {
  const targets = published.map(({ targetPath }) => targetPath);
  return staged === null ? targets : [stagedNodePath(staged.stagingTargetPath), ...targets];
}

/** The volume for which a bind mount is classified. */
interface BindContext {
  /** undefined if the volume cannot be looked up. */
  readonly volume: FoundVolume | undefined;
  readonly devices: readonly LoopDevice[];
  /** Of a block volume; undefined if it cannot be read. */
  readonly nodeState: NodeState | undefined;
  /** Targets that belong to this volume according to the caller. */
  readonly claimedTargets: readonly string[];
}

/**
 * `live`: the mount belongs to the volume and leads to it. `lost`: it belongs to the volume, but another process detached the
 * device. `exposed`: it belongs to another volume but leads to this one, whose device has the number that the other volume lost.
 * undefined: it has nothing to do with this volume.
 */
export async function classifyBind(
  domain: Domain,
  { mount: { target }, number, isRemoved }: NodeBind,
  { volume, devices, nodeState, claimedTargets }: BindContext,
): Promise<'live' | 'lost' | 'exposed' | undefined> {
  const isShown = !isRemoved && devices.some((device) => device.number === number);
  const isRecorded = nodeState !== undefined && bindTargetsIn(nodeState).includes(target);
  if (isShown && isRecorded) return 'live';
  if (!isShown && !isRecorded && !claimedTargets.includes(target)) return undefined;
  const others = await findVolumesBoundAt(domain, target, volume?.record.id);
  if (isShown) return others.length === 0 ? 'live' : 'exposed';
  const device = isRemoved ? undefined : await domain.host.loops.at(number);
  if (device !== undefined) {
    for (const other of others) if (await isAttachedTo(domain, device, other)) return undefined;
  }
  if (isRecorded) return 'lost';
  if (others.length > 0) return undefined;
  // No node state lists the target, so only the claim of the caller is left.
  if (device === undefined) return 'lost';
  // The targets of our own devices are known; a device of another driver may be in use there.
  if (isLabelled(device))
    return (await volumeAttachedTo(domain, device)) === undefined ? undefined : 'lost';
  const hasNoTargets = nodeState === undefined || bindTargetsIn(nodeState).length === 0;
  return hasNoTargets ? 'lost' : undefined;
}

/** Other block volumes whose node state lists the target: at most one, unless an entry has outlived its bind mount. */
async function findVolumesBoundAt(
  domain: Domain,
  target: string,
  except: string | undefined,
): Promise<readonly FoundVolume[]> {
  const found: FoundVolume[] = [];
  for (const pool of domain.pools.all) {
    for (const record of pool.volumes.values()) {
      if (record.kind !== 'block' || record.id === except) continue;
      // With the configured path, which is known even while the pool is not served.
      const volume = pool.volumeOf('volumes', record, pool.settings.path);
      const nodeState = await nodeStateOf(domain, volume);
      if (nodeState !== undefined && bindTargetsIn(nodeState).includes(target)) found.push(volume);
    }
  }
  return found;
}

/** Ids of the other block volumes whose node state lists the target. */
export async function ownersOf(
  domain: Domain,
  target: string,
  except: string,
): Promise<readonly string[]> {
  return (await findVolumesBoundAt(domain, target, except)).map(({ record }) => record.id);
}

/** While the pool is unavailable, only a node state that was read before is known. */
async function nodeStateOf(domain: Domain, volume: FoundVolume): Promise<NodeState | undefined> {
  const { pool, record } = volume;
  if (pool.problem !== undefined) return pool.nodeStates.get(record.id);
  return readNodeState(domain, volume);
}
