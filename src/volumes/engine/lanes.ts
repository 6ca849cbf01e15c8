/**
 * A lane is a queue of blocking kernel calls, of which one runs at a time (host/kernel/gate.ts). A call that hangs so stops its lane
 * and nothing else. What one operation does for a volume has a lane; so has each job, check and list that must not wait for it.
 */
export interface Lane {
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
  | 'devices';

/** Runs the kernel calls of `work` in the lane, later asynchronous ones included. */
export type InLane = <T>(lane: Lane, work: () => Promise<T>) => Promise<T>;

/** What the gate calls the owner of a lane. Unique, and shown in messages about calls that hang. */
export function laneName({ kind, id }: Lane): string {
  return kind === 'volume' ? id : `${kind} ${id}`;
}

/** How the host marks kernel calls: by the name of their owner, and the disk that they wait for (host/kernel/owner.ts). */
export type OwnedBy = <T>(owner: string, work: () => Promise<T>, disk?: string) => Promise<T>;

export function inLaneBy(ownedBy: OwnedBy): InLane {
  return (lane, work) => ownedBy(laneName(lane), work, lane.pool);
}
