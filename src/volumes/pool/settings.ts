/** How one pool is configured (`--pool NAME=DIR,…`; docs/configuration.md). */
export interface PoolSettings {
  /** Name in StorageClasses and commands: `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?` */
  readonly name: string;
  /** Absolute, normal path of the pool's directory. */
  readonly path: string;
  /** Make the pool at the first start, in an empty directory this node has never seen. */
  readonly create: boolean;
  /** Kept free for others: bytes, or per mille of the filesystem's size. */
  readonly reserve: { readonly bytes: bigint } | { readonly perMille: number };
  /** Promises may be this many thousandths of the room; 1000 promises nothing twice. */
  readonly overcommitPerMille: number;
  /** Refuse the directory unless it is a mount point. */
  readonly mountpointRequired: boolean;
  /** Freeze thin volumes before the pool is full; undefined: when overcommit is above 1. */
  readonly guard: boolean | undefined;
  /** Accept overlayfs or tmpfs beneath. */
  readonly force: boolean;
  /** Size of an embedded XFS image that serves as a reflink pool; undefined: the directory itself is the pool. */
  readonly reflinkBytes: bigint | undefined;
}

/** Defaults of everything but name and path. */
export const poolDefaults = {
  create: false,
  reserve: { perMille: 50 },
  overcommitPerMille: 1000,
  mountpointRequired: false,
  force: false,
  guard: undefined,
  reflinkBytes: undefined,
} as const satisfies Omit<PoolSettings, 'name' | 'path'>;
