import type { FsType, Host } from '../host/host.ts';
import type { Logger } from '../observe/log.ts';
import type { DomainObserver } from '../observe/metrics/events.ts';
import type { Reached } from './engine/fault-points.ts';
import type { Operations } from './engine/operations.ts';
import type { GroupParts } from './jobs/group-parts.ts';
import type { InterruptedCreates } from './jobs/interrupted-creates.ts';
import type { InterruptedRestores } from './jobs/interrupted-restores.ts';
import type { OpenDevices } from './jobs/open-devices.ts';
import type { SentVolumes } from './jobs/sent-volumes.ts';
import type { SnapshotCopies } from './jobs/snapshot-copies.ts';
import type { SpaceGuard } from './jobs/space-guard.ts';
import type { TransferLimits, Transfers } from './jobs/transfers.ts';
import type { Trash } from './jobs/trash.ts';
import type { TrimClock } from './jobs/trim-clock.ts';
import type { Trims } from './jobs/trims.ts';
import type { Pools } from './pool/pools.ts';

export interface DomainSettings {
  readonly nodeTag: string;
  readonly defaultFsType: FsType;
  readonly defaultSizeBytes: bigint;
  /** Sizes of inline volumes: the default and the maximum of one volume, and the maximum of all inline volumes of a pool together. */
  readonly ephemeral: {
    readonly defaultBytes: bigint;
    readonly maximumBytes: bigint;
    readonly poolCapBytes: bigint;
  };
  readonly maxVolumesPerNode: number;
  /** Maximum time for which the space guard keeps a filesystem frozen, in milliseconds. */
  readonly guardFreezeLimitMs: number;
  /** Maximum time for which a group snapshot over several nodes keeps filesystems frozen, in milliseconds. */
  readonly groupFreezeLimitMs: number;
  /** Maximum rate at which trims return bytes to a pool, except those of the guard. */
  readonly trimBytesPerSecond: bigint;
  readonly transfers: TransferLimits;
  /** Whether NodePublishVolume first stages the volume below `mountDir`, and the last NodeUnpublishVolume unstages it. */
  readonly withoutStaging: boolean;
  /** `--pods-cgroup`, for the report of doctor; undefined if it is not set. */
  readonly podsCgroup?: string | undefined;
}

/** The dependencies that every function of the domain receives as an argument. */
export interface Domain {
  /** Runs its kernel calls in one lane. `operations.run` and `inLane` pass on a domain whose host runs in another lane. */
  readonly host: Host;
  readonly pools: Pools;
  readonly operations: Operations;
  readonly trash: Trash;
  readonly snapshotCopies: SnapshotCopies;
  readonly interruptedRestores: InterruptedRestores;
  readonly interruptedCreates: InterruptedCreates;
  /**
   * Directories in `tmp/` from which exports, and copies to other nodes, read. These are no operations, so `operations.runningCount`
   * leaves them out.
   */
  readonly openCaptures: Set<string>;
  /** Copies from and to other nodes. */
  readonly transfers: Transfers;
  /** Volumes that are being copied to other nodes. */
  readonly sentVolumes: SentVolumes;
  /** Parts of group snapshots over several nodes that this node is taking. */
  readonly groupParts: GroupParts;
  readonly guard: SpaceGuard;
  readonly trims: Trims;
  readonly trimClock: TrimClock;
  readonly openDevices: OpenDevices;
  readonly settings: DomainSettings;
  /**
   * The kubelet's directory as configured, and its real path, resolved once at start. Target paths must be below it, and symbolic
   * links below it are not followed. If undefined, any absolute path is accepted.
   */
  readonly kubelet: { readonly path: string; readonly realPath: string } | undefined;
  /**
   * The directory in which the driver mounts volumes for Docker, or without staging, as in mountinfo. It is created and resolved at
   * start; undefined if the driver never needs it.
   */
  readonly mountDir: string | undefined;
  readonly log: Logger;
  /** Counts events for the metrics. */
  readonly observer: DomainObserver;
  readonly reached: Reached;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}
