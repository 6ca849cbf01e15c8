import type { Host } from '../../host/host.ts';
import { laneWithin, onDisk } from '../../host/lane.ts';

/**
 * The lane of blocking kernel calls (host/lane.ts) that some work needs. A call that hangs so stops its own lane and nothing else. What
 * one operation does for a volume has a lane; so has each job, check and list that must not wait for it.
 */
export interface LaneSpec {
  readonly kind: LaneKind;
  /** A volume, snapshot, group, pool or path. */
  readonly id: string;
  /** The pool whose disk the calls wait for; undefined: the caller's, or one that is not known yet. */
  readonly pool?: string | undefined;
}

export type LaneKind =
  // Operations, by what they are for.
  | 'volume'
  | 'snapshot'
  | 'group'
  // Jobs.
  | 'capture'
  | 'copy'
  | 'device'
  | 'guard'
  | 'recover'
  | 'trash'
  | 'trim'
  // Questions.
  | 'check'
  | 'health'
  | 'inspect'
  | 'metadata'
  | 'stats'
  | 'target'
  // A pool itself: opening and checking it, its free space, growing it, each of its directories, its loop devices.
  | 'pool'
  | 'space'
  | 'grow'
  | 'directory'
  | 'devices'
  // The directory of what the node knows outside its pools.
  | 'state';

/** Unique, and shown in messages about calls that hang. */
export function laneName({ kind, id }: LaneSpec): string {
  return kind === 'volume' ? id : `${kind} ${id}`;
}

/** Opening, checking and changing a pool itself. */
export function poolLane(name: string): LaneSpec {
  return { kind: 'pool', id: name, pool: name };
}

/** The same dependencies, with a host whose kernel calls run in the lane. */
export function inLane<Deps extends { readonly host: Host }>(deps: Deps, spec: LaneSpec): Deps {
  const { host } = deps;
  return { ...deps, host: host.inLane(laneWithin(host.lane, laneName(spec), spec.pool)) };
}

/** The same dependencies, with a host whose calls wait for the disk of that pool. They stay in its lane. */
export function onDiskOf<Deps extends { readonly host: Host }>(
  deps: Deps,
  pool: { readonly name: string },
): Deps {
  const { host } = deps;
  return { ...deps, host: host.inLane(onDisk(host.lane, pool.name)) };
}
