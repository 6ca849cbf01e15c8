import type { FsType, Host } from '../host/host.ts';
import type { Logger } from '../observe/log.ts';
import type { Reached } from './engine/fault-points.ts';
import type { InLane } from './engine/lanes.ts';
import type { Operations } from './engine/operations.ts';
import type { InterruptedCreates } from './jobs/interrupted-creates.ts';
import type { OpenDevices } from './jobs/open-devices.ts';
import type { RestoreCopies } from './jobs/restore-copies.ts';
import type { SnapshotCopies } from './jobs/snapshot-copies.ts';
import type { SpaceGuard } from './jobs/space-guard.ts';
import type { Trash } from './jobs/trash.ts';
import type { Trims } from './jobs/trims.ts';
import type { Pools } from './pool/pools.ts';

export interface DomainSettings {
  readonly nodeTag: string;
  readonly defaultFsType: FsType;
  readonly defaultSizeBytes: bigint;
  /** Inline volumes: the default and the maximum size, and the maximum sum of a pool. */
  readonly ephemeral: {
    readonly defaultBytes: bigint;
    readonly maximumBytes: bigint;
    readonly poolCapBytes: bigint;
  };
  /** Targets must be below it, and no symlink below it is followed; undefined: any absolute path. */
  readonly kubeletDir: string | undefined;
  readonly maxVolumesPerNode: number;
  /** The maximum time for which the space guard freezes a filesystem, in milliseconds. */
  readonly guardFreezeLimitMs: number;
  /** The first publish of a volume stages it below `mountDir`, and the last unpublish unstages it. */
  readonly withoutStaging?: boolean;
  /** The directory where the driver mounts volumes for Docker, or without staging; undefined if it does neither. */
  readonly mountDir?: string | undefined;
}

/** The parts of the domain, passed explicitly to all its calls. */
export interface Domain {
  readonly host: Host;
  readonly pools: Pools;
  readonly operations: Operations;
  readonly trash: Trash;
  readonly copies: SnapshotCopies;
  readonly restores: RestoreCopies;
  readonly interruptedCreates: InterruptedCreates;
  readonly guard: SpaceGuard;
  readonly trims: Trims;
  readonly openDevices: OpenDevices;
  readonly settings: DomainSettings;
  /** Operations do this for the work that they run; reads do it themselves, so that a hung volume stops only itself. */
  readonly inLane: InLane;
  /** The kubelet's directory: the configured path and its real path, resolved once at start. */
  readonly kubelet: { readonly path: string; readonly realPath: string } | undefined;
  /** The real path of `settings.mountDir`, as mountinfo shows it, made and resolved at start. */
  readonly mountDir: string | undefined;
  readonly log: Logger;
  readonly reached: Reached;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}
