/** The configuration of one pool (`--pool NAME=DIR,…`; docs/configuration.md). */
export interface PoolSettings {
  /** Name in StorageClasses and commands: `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?` */
  readonly name: string;
  /** Absolute, normal path of the pool's directory. */
  readonly path: string;
  /** Create the pool at the first start, in an empty directory that this node has never served as a pool. */
  readonly create: boolean;
  /** Space that is never promised: bytes, or per mille of the size of the filesystem. */
  readonly reserve: { readonly bytes: bigint } | { readonly perMille: number };
  /** The overcommit factor in thousandths; 1000 promises no byte twice. */
  readonly overcommitPerMille: number;
  /** Refuse the directory unless it is a mount point. */
  readonly mountpointRequired: boolean;
  /** Freeze thin volumes before the pool is full; undefined: if overcommit is above 1. */
  readonly guard: boolean | undefined;
  /** Accept a directory on overlayfs or tmpfs. */
  readonly force: boolean;
  /** Size of an embedded XFS image that serves as a reflink pool; undefined: the directory itself is the pool. */
  readonly reflinkBytes: bigint | undefined;
}

/** Whether a pool may promise more than it has. */
export function isOvercommitted({
  overcommitPerMille,
}: Pick<PoolSettings, 'overcommitPerMille'>): boolean {
  return overcommitPerMille > 1000;
}

/** The defaults of all settings except name and path. */
export const poolDefaults = {
  create: false,
  reserve: { perMille: 50 },
  overcommitPerMille: 1000,
  mountpointRequired: false,
  force: false,
  guard: undefined,
  reflinkBytes: undefined,
} as const satisfies Omit<PoolSettings, 'name' | 'path'>;
