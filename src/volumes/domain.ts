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
  /** Inline ephemeral volumes: size without `size`, the largest one, and all of a pool together. */
  readonly ephemeral: {
    readonly defaultBytes: bigint;
    readonly maximumBytes: bigint;
    readonly poolCapBytes: bigint;
  };
  /** Targets must lie below it, and no symlink below it is followed; undefined: any absolute path. */
  readonly kubeletDir: string | undefined;
  readonly maxVolumesPerNode: number;
  /** The longest the space guard lets a filesystem stand still, in milliseconds. */
  readonly guardFreezeLimitMs: number;
  /** Publishing does the whole work: it stages below `mountDir` first, and the last unpublish unstages. */
  readonly withoutStaging?: boolean;
  /** Where the driver mounts volumes on its own behalf; undefined when it never does. */
  readonly mountDir?: string | undefined;
}

/** What every story of the domain gets, explicitly. */
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
  /** The kubelet's directory as configured and as it really is, resolved once at start. */
  readonly kubelet: { readonly path: string; readonly realPath: string } | undefined;
  /** `settings.mountDir`, made and resolved at start: as mountinfo writes it. */
  readonly mountDir: string | undefined;
  readonly log: Logger;
  readonly reached: Reached;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}
