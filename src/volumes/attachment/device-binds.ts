import { join } from 'node:path';
import type { LoopDevice } from '../../host/host.ts';
import { isLabelled } from '../../host/loop/status.ts';
import type { NodeBind } from '../../host/mount/loop-mounts.ts';
import type { NodeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { isAttachedTo, volumeAttachedTo } from './device-owner.ts';
import { readNodeState } from './node-state.ts';

/**
 * Binds of device nodes. A bind shows whatever is attached to its number: it neither keeps its device nor says whose it is. So
 * it belongs to the volume whose notes name its target, and the number only tells whether it shows that volume still.
 */

/** A raw block volume is staged by binding its device node here: the kernel then says so, also after a restart. */
export const stagedNodeName = 'device';

/** Where the notes say that nodes of a block volume are bound. */
export function bindTargetsIn({ staged, published }: NodeRecord): readonly string[] {
  const targets = published.map(({ targetPath }) => targetPath);
  return staged === null ? targets : [join(staged.stagingTargetPath, stagedNodeName), ...targets];
}

/** For whom a bind is looked at. */
export interface Viewer {
  /** undefined for a volume that cannot be looked up. */
  readonly volume: FoundVolume | undefined;
  readonly devices: readonly LoopDevice[];
  /** Of a block volume; undefined where nothing can be known. */
  readonly nodeState: NodeRecord | undefined;
  /** Targets that the caller says are this volume's. */
  readonly asked: readonly string[];
}

/**
 * `live`: the volume's own. `lost`: it was the volume's own, and its device was detached by somebody else. `shown`: another
 * volume's target that shows this volume, because its device has the number that the other one lost. undefined: not of this
 * volume.
 */
export async function classifyBind(
  domain: Domain,
  { mount: { target }, number, isRemoved }: NodeBind,
  { volume, devices, nodeState, asked }: Viewer,
): Promise<'live' | 'lost' | 'shown' | undefined> {
  const isShown = !isRemoved && devices.some((device) => device.number === number);
  const isNoted = nodeState !== undefined && bindTargetsIn(nodeState).includes(target);
  if (isShown && isNoted) return 'live';
  if (!isShown && !isNoted && !asked.includes(target)) return undefined;
  const others = await findVolumesBoundAt(domain, target, volume?.record.id);
  if (isShown) return others.length === 0 ? 'live' : 'shown';
  const device = isRemoved ? undefined : await domain.host.loops.at(number);
  if (device !== undefined) {
    for (const other of others) if (await isAttachedTo(domain, device, other)) return undefined;
  }
  if (isNoted) return 'lost';
  if (others.length > 0) return undefined;
  // Nobody's notes name the target, so only the caller's word is left.
  if (device === undefined) return 'lost';
  // Of ours it is known where they are bound; another driver's may be in use there.
  if (isLabelled(device))
    return (await volumeAttachedTo(domain, device)) === undefined ? undefined : 'lost';
  const isNothingKnown = nodeState === undefined || bindTargetsIn(nodeState).length === 0;
  return isNothingKnown ? 'lost' : undefined;
}

/** The other block volumes whose notes name the target: one, or none, but for notes that outlived their bind. */
async function findVolumesBoundAt(
  domain: Domain,
  target: string,
  except: string | undefined,
): Promise<readonly FoundVolume[]> {
  const found: FoundVolume[] = [];
  for (const pool of domain.pools.all) {
    for (const record of pool.volumes.values()) {
      if (record.kind !== 'block' || record.id === except) continue;
      // By the configured path, which is known also while the pool is not served.
      const volume = pool.volumeOf('volumes', record, pool.settings.path);
      const nodeState = await nodeStateOf(domain, volume);
      if (nodeState !== undefined && bindTargetsIn(nodeState).includes(target)) found.push(volume);
    }
  }
  return found;
}

/** Ids of the other block volumes whose notes name the target. */
export async function ownersOf(
  domain: Domain,
  target: string,
  except: string,
): Promise<readonly string[]> {
  return (await findVolumesBoundAt(domain, target, except)).map(({ record }) => record.id);
}

/** While a pool is away, what was read of it before. */
async function nodeStateOf(domain: Domain, volume: FoundVolume): Promise<NodeRecord | undefined> {
  const { pool, record } = volume;
  if (pool.problem !== undefined) return pool.nodeStates.get(record.id);
  return readNodeState(domain, volume);
}
