/** Runs `work` in the lane of `owner`, a volume or a pool: of its blocking system calls one runs at a time (host/kernel/gate.ts). */
export type OwnedBy = <T>(owner: string, work: () => Promise<T>) => Promise<T>;

/** The same, with the name of the pool whose disk the calls wait for. */
export type OwnedOnDisk = <T>(
  owner: string,
  work: () => Promise<T>,
  pool: string | undefined,
) => Promise<T>;
