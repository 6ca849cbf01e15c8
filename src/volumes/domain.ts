import type { FsType, Host } from '../host/host.ts';
import type { Logger } from '../observe/log.ts';
import type { Reached } from './engine/fault-points.ts';
import type { Operations } from './engine/operations.ts';
import type { InterruptedCreates } from './jobs/interrupted-creates.ts';
import type { InterruptedRestores } from './jobs/interrupted-restores.ts';
import type { OpenDevices } from './jobs/open-devices.ts';
import type { SnapshotCopies } from './jobs/snapshot-copies.ts';
import type { SpaceGuard } from './jobs/space-guard.ts';
import type { Trash } from './jobs/trash.ts';
import type { Trims } from './jobs/trims.ts';
import type { Pools } from './pool/pools.ts';

export interface DomainSettings {
  readonly nodeTag: string;
  readonly defaultFsType: FsType;
  readonly defaultSizeBytes: bigint;
  /** Sizes of inline volumes: the default, the maximum of one, and the maximum of all of a pool together. */
  readonly ephemeral: {
    readonly defaultBytes: bigint;
    readonly maximumBytes: bigint;
    readonly poolCapBytes: bigint;
  };
  readonly maxVolumesPerNode: number;
  /** How long the space guard keeps a filesystem frozen at most, in milliseconds. */
  readonly guardFreezeLimitMs: number;
  /** NodePublishVolume stages the volume below `mountDir` first, and the last NodeUnpublishVolume unstages it. */
  readonly withoutStaging: boolean;
}

/** What every call of the domain gets, as an argument. */
export interface Domain {
  /** Its kernel calls run in one lane: `operations.run` and `inLane` pass on a domain with another one. */
  readonly host: Host;
  readonly pools: Pools;
  readonly operations: Operations;
  readonly trash: Trash;
  readonly snapshotCopies: SnapshotCopies;
  readonly interruptedRestores: InterruptedRestores;
  readonly interruptedCreates: InterruptedCreates;
  readonly guard: SpaceGuard;
  readonly trims: Trims;
  readonly openDevices: OpenDevices;
  readonly settings: DomainSettings;
  /**
   * The kubelet's directory as configured, and its real path, resolved once at start. Target paths must be below it, and symbolic
   * links below it are not followed; undefined: any absolute path.
   */
  readonly kubelet: { readonly path: string; readonly realPath: string } | undefined;
  /**
   * Where the driver mounts volumes for Docker, or without staging, as mountinfo writes it: created and resolved at start; undefined
   * when it never does.
   */
  readonly mountDir: string | undefined;
  readonly log: Logger;
  readonly reached: Reached;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}
