import { AsyncLocalStorage } from 'node:async_hooks';

/** Whose a blocking call is: a volume or a pool, of which one call at a time may block (gate.ts). */
export interface Owner {
  readonly name: string;
  /** What its calls wait for, the disk of a pool for example; undefined where that is not known. */
  readonly disk: string | undefined;
  /** Its own name and those of the owners within whose work it was named. */
  readonly chain: readonly string[];
}

/** The owner of calls made outside `ownedBy`. */
const nobody: Owner = { name: 'driver', disk: undefined, chain: ['driver'] };

const owners = new AsyncLocalStorage<Owner>();

/**
 * Runs `work`, whose blocking calls, also the later asynchronous ones, count as the owner's: `volume:ID`, `pool:NAME`. Without
 * a disk of its own it stands on that of whoever called.
 */
export function ownedBy<T>(name: string, work: () => T, disk?: string): T {
  const outer = owners.getStore();
  const chain = [name, ...(outer?.chain ?? [])];
  return owners.run({ name, disk: disk ?? outer?.disk, chain }, work);
}

/** Runs `work` as the present owner's, whose calls wait for `disk` from now on. */
export function onDisk<T>(disk: string, work: () => T): T {
  return owners.run({ ...(owners.getStore() ?? nobody), disk }, work);
}

/** Whose the calls made here are. */
export function presentOwner(): Owner {
  return owners.getStore() ?? nobody;
}
