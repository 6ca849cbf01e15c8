import type { FsType } from '../host/host.ts';
import type { Volumes } from '../volumes/api.ts';
import type { Features } from './advertised.ts';
import type { RemoteSources } from './remote-sources.ts';
import type { NodeTopology } from './topology.ts';

/** Configuration of the CSI services. The fields have the names of the options. */
export interface CsiSettings extends Features {
  readonly driverName: string;
  readonly defaultFstype: FsType;
  /** Names of all pools of the cluster; undefined if no scheduler calls GetCapacity for every class. */
  readonly clusterPools: readonly string[] | undefined;
}

/** Dependencies of the methods of the CSI services. */
export interface CsiContext {
  readonly settings: CsiSettings;
  /** Version of the driver. */
  readonly version: string;
  readonly volumes: Volumes;
  /** Snapshots and volumes of other nodes that this one may read. */
  readonly remoteSources: RemoteSources;
  readonly thisNode: NodeTopology;
}
