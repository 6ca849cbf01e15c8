/**
 * A lane of blocking kernel calls, of which the gate (kernel/gate.ts) runs one at a time. A call that hangs stops its own
 * lane and no other. Each function of host/ that makes such calls takes the lane as its first argument; a `Host` has one
 * (`Host.inLane`).
 */
export interface Lane {
  /** Unique; messages about calls that hang name it. */
  readonly name: string;
  /** The disk that its calls wait for, named by its pool; undefined if unknown. */
  readonly disk: string | undefined;
  /** Its own name, then the names of the lanes whose work started it. */
  readonly chain: readonly string[];
}

/** The lane of calls that are made for no volume and no pool. */
export const driverLane: Lane = { name: 'driver', disk: undefined, chain: ['driver'] };

/** A lane for work started in the lane `outer`. If no disk is given, that of `outer` is inherited. */
export function laneWithin(outer: Lane, name: string, disk: string | undefined = outer.disk): Lane {
  return { name, disk, chain: [name, ...outer.chain] };
}

/** The same lane, whose next calls wait for `disk`. */
export function onDisk(lane: Lane, disk: string): Lane {
  return { ...lane, disk };
}
