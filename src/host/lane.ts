/**
 * A sequence of blocking kernel calls that the gate (kernel/gate.ts) runs one at a time. A call that hangs blocks its
 * own lane and no other. Each function of host/ that makes such calls takes the lane as its first argument; a `Host`
 * has one (`Host.inLane`).
 */
export interface Lane {
  /** Unique. Error messages about hung calls contain it. */
  readonly name: string;
  /** The disk that its calls depend on, identified by the name of its pool; undefined if unknown. */
  readonly disk: string | undefined;
  /**
   * Its own name, followed by the names of the lanes it was started from, innermost first. The driver lane is not
   * included.
   */
  readonly chain: readonly string[];
}

/** The lane of calls that belong to no volume and no pool. */
export const driverLane: Lane = { name: 'driver', disk: undefined, chain: [] };

/** Creates a lane for work started from the lane `outer`. By default it inherits the disk of `outer`. */
export function laneWithin(outer: Lane, name: string, disk: string | undefined = outer.disk): Lane {
  return { name, disk, chain: [name, ...outer.chain] };
}

/** Returns the same lane with its calls attributed to `disk`. */
export function onDisk(lane: Lane, disk: string): Lane {
  return { ...lane, disk };
}
