import type { FsType } from '../host/host.ts';
import type { Volumes } from '../volumes/api.ts';
import type { Features } from './advertised.ts';
import type { NodeTopology } from './topology.ts';

/** What the CSI services are told at start. */
export interface FrontSettings extends Features {
  readonly driverName: string;
  /** Of the software, for GetPluginInfo. */
  readonly version: string;
  readonly nodeId: string;
  readonly defaultFsType: FsType;
  /** Names of all pools of the cluster, where a scheduler asks for the room of every class. */
  readonly clusterPools: readonly string[] | undefined;
}

/** What the methods of the CSI services work with. */
export interface Front {
  readonly settings: FrontSettings;
  readonly volumes: Volumes;
  readonly here: NodeTopology;
}
