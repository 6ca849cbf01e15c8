import type { FsType } from '../host/host.ts';
import type { Volumes } from '../volumes/api.ts';
import type { Features } from './advertised.ts';
import type { NodeTopology } from './topology.ts';

/** The part of the configuration that the CSI services use, under the names of its options. */
export interface CsiSettings extends Features {
  readonly driverName: string;
  readonly defaultFstype: FsType;
  /** Names of all pools of the cluster; undefined if no scheduler calls GetCapacity for every class. */
  readonly clusterPools: readonly string[] | undefined;
}

/** What the methods of the CSI services work with. */
export interface CsiContext {
  readonly settings: CsiSettings;
  /** Version of the driver. */
  readonly version: string;
  readonly volumes: Volumes;
  readonly thisNode: NodeTopology;
}
