/** Marks the kernel calls of `work` with their owner: a volume or a pool, of which one call at a time may block (host/gate.ts). */
export type OwnedBy = <T>(owner: string, work: () => Promise<T>) => Promise<T>;

/** The same with the name of the pool whose disk the calls wait for. */
export type OwnedOnGround = <T>(
  owner: string,
  work: () => Promise<T>,
  ground: string | undefined,
) => Promise<T>;
