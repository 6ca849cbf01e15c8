import { AsyncLocalStorage } from 'node:async_hooks';

/** The owner of a blocking call: a volume or a pool. The gate (gate.ts) runs one call at a time for each owner. */
export interface Owner {
  readonly name: string;
  /** The disk that its calls wait for, named by its pool; undefined if unknown. */
  readonly disk: string | undefined;
  /** Its own name, then the names of the owners whose work started it. */
  readonly chain: readonly string[];
}

/** The owner of calls outside `ownedBy`. */
const driver: Owner = { name: 'driver', disk: undefined, chain: ['driver'] };

const owners = new AsyncLocalStorage<Owner>();

/**
 * Runs `work`. Its blocking calls, including later asynchronous ones, belong to the owner `name`. If no disk is given,
 * the disk of the caller is inherited.
 */
export function ownedBy<T>(name: string, work: () => T, disk?: string): T {
  const outer = owners.getStore();
  const chain = [name, ...(outer?.chain ?? [])];
  return owners.run({ name, disk: disk ?? outer?.disk, chain }, work);
}

/** Runs `work` for the current owner; its calls wait for `disk`. */
export function onDisk<T>(disk: string, work: () => T): T {
  return owners.run({ ...(owners.getStore() ?? driver), disk }, work);
}

/** The owner of calls made here. */
export function currentOwner(): Owner {
  return owners.getStore() ?? driver;
}
