import type { Host } from '../../host/host.ts';
import { laneWithin, onDisk } from '../../host/lane.ts';

/**
 * Identifies a lane of blocking kernel calls (host/lane.ts). A call that hangs blocks only the other calls of its lane. The
 * operations on a volume share one lane; jobs, checks and lists that must not wait for them have their own.
 */
export interface LaneSpec {
  readonly kind: LaneKind;
  /** The id of a volume, snapshot or group, the name of a pool, or a path. */
  readonly id: string;
  /** The name of the pool whose disk the calls wait for; undefined if the caller has named it, or if it is not known yet. */
  readonly pool?: string | undefined;
}

type LaneKind =
  // Operations, by the kind of object that they change.
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
  // Queries.
  | 'check'
  | 'health'
  | 'inspect'
  | 'metadata'
  | 'stats'
  | 'target'
  | 'usage'
  // A pool as a whole: opening and checking it, its free space, its growth, each of its directories, its loop devices.
  | 'pool'
  | 'space'
  | 'grow'
  | 'command'
  | 'directory'
  | 'devices'
  // The state directory, outside all pools.
  | 'state';

/** Unique; shown in messages about calls that hang. */
export function laneName({ kind, id }: LaneSpec): string {
  return kind === 'volume' ? id : `${kind} ${id}`;
}

/** The lane for opening, checking and recovering a pool. */
export function poolLane(name: string): LaneSpec {
  return { kind: 'pool', id: name, pool: name };
}

/** The lane of a command for a pool: its calls neither wait for a check of the pool, nor delay one. */
export function poolCommandLane(name: string): LaneSpec {
  return { kind: 'command', id: name, pool: name };
}

/** Returns a copy of `deps` whose host runs its kernel calls in the lane. */
export function inLane<Deps extends { readonly host: Host }>(deps: Deps, spec: LaneSpec): Deps {
  const { host } = deps;
  return { ...deps, host: host.inLane(laneWithin(host.lane, laneName(spec), spec.pool)) };
}

/** Returns `deps` with a host that stays in its lane and attributes its calls to the disk of the pool. */
export function onDiskOf<Deps extends { readonly host: Host }>(
  deps: Deps,
  pool: { readonly name: string },
): Deps {
  const { host } = deps;
  // Most lanes have been given the disk already, and a nested call needs no further host.
  if (host.lane.disk === pool.name) return deps;
  return { ...deps, host: host.inLane(onDisk(host.lane, pool.name)) };
}
