/** The calls a front may make of the domain. `open.ts` builds the object; each method is one story in its own file. */
import type { FsType } from '../host/host.ts';
import type { Call } from './engine/operations.ts';
import type {
  Capability,
  CreateVolumeInput,
  ExpandInput,
  HealthSign,
  NodeExpandInput,
  Page,
  PoolCapacity,
  PublishInput,
  StageInput,
  StorageSign,
  Volume,
  VolumeHealth,
  VolumeKind,
  VolumeSettings,
  VolumeStats,
} from './model.ts';
import type { Snapshots } from './snapshots-api.ts';

export interface Volumes extends Snapshots {
  createVolume(call: Call, input: CreateVolumeInput): Promise<Volume>;
  deleteVolume(call: Call, volumeId: string): Promise<void>;
  /** Throws `not-found`. */
  getVolume(call: Call, volumeId: string): Promise<Volume>;
  /** Ascending by id; `maxEntries` 0 means all. Throws `stale-token` for a token that is none of ours. */
  listVolumes(
    call: Call,
    page: { maxEntries: number; startingToken: string },
  ): Promise<Page<Volume>>;
  /** undefined when every capability (and the rest) fits the volume, else why not. Throws `not-found`. */
  findMismatch(
    call: Call,
    volumeId: string,
    asked: {
      capabilities: readonly Capability[];
      parameters: Readonly<Record<string, string>>;
      context: Readonly<Record<string, string>>;
    },
  ): Promise<string | undefined>;
  capacity(
    call: Call,
    asked: {
      pool: string | undefined;
      provisioning: VolumeSettings['provisioning'];
      kind: VolumeKind;
      fsType: FsType | null;
    },
  ): Promise<PoolCapacity>;
  /** Promises and grows the image. `nodeExpansionRequired`: a filesystem or an attached device still has the old size. */
  expandVolume(
    call: Call,
    input: ExpandInput,
  ): Promise<{ sizeBytes: bigint; nodeExpansionRequired: boolean }>;

  stageVolume(call: Call, input: StageInput): Promise<void>;
  unstageVolume(call: Call, input: { volumeId: string; stagingTargetPath: string }): Promise<void>;
  publishVolume(call: Call, input: PublishInput): Promise<void>;
  unpublishVolume(call: Call, input: { volumeId: string; targetPath: string }): Promise<void>;
  volumeStats(call: Call, input: { volumeId: string; volumePath: string }): Promise<VolumeStats>;
  /** Grows what the node has: image if the promise is new, device, filesystem. */
  nodeExpandVolume(call: Call, input: NodeExpandInput): Promise<{ sizeBytes: bigint }>;

  /** Empty: healthy. Throws `not-found`. */
  volumeHealth(call: Call, volumeId: string): Promise<readonly HealthSign[]>;
  /** Only volumes with signs. */
  listVolumeHealth(
    call: Call,
    page: { maxEntries: number; startingToken: string },
  ): Promise<Page<VolumeHealth>>;
  storageHealth(call: Call): Promise<readonly StorageSign[]>;
  /** undefined when the node can serve: at least one pool, every needed program; else why not, and what to do. */
  findUnready(call: Call): Promise<string | undefined>;
  /** Loop devices bound the number of volumes; two a raw block volume. */
  readonly maxVolumesPerNode: number;
}
