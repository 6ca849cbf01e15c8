/** The paths, names and addresses of a cluster, all derived from its state directory. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';

export interface Layout {
  readonly state: string;
  /** Unique for each cluster, as is the node tag of its volume ids, which identifies the cluster of a leftover. */
  readonly nodeName: string;
  readonly logs: string;
  readonly pki: string;
  readonly settings: string;
  /** Process IDs of the started processes. */
  readonly processes: string;
  readonly kubeletDir: string;
  readonly criSocket: string;
  readonly kubeconfig: string;
  /** The network namespace of the cluster: its addresses exist nowhere else. */
  readonly namespace: string;
  /** The parent cgroup of all pods. */
  readonly cgroup: string;
  /** The directory of the tests' pools on the node. */
  readonly pools: string;
}

/** Inside the cluster's own network namespace, so two clusters do not collide. */
export const addresses = {
  node: '10.255.0.1',
  pods: '10.244.0.0/24',
  services: '10.96.0.0/16',
  apiService: '10.96.0.1',
} as const;

/** The prefix of the network namespaces and cgroups of all clusters. */
export const namespacePrefix = 'loopcsi-e2e-';

/** Unix sockets are below the state directory, and their paths are limited to 107 bytes. */
const longestState = 40;

export function layoutOf(state: string, kubeletDir = join(state, 'kubelet')): Layout {
  if (state.length > longestState) {
    throw new Error(
      `${state} is too long for the unix sockets below it: set TMPDIR to a short path`,
    );
  }
  const hash = createHash('sha256').update(state).digest('hex').slice(0, 8);
  const name = `${namespacePrefix}${hash}`;
  return {
    state,
    nodeName: `node-${hash}`,
    logs: join(state, 'log'),
    pki: join(state, 'pki'),
    settings: join(state, 'etc'),
    processes: join(state, 'run'),
    kubeletDir,
    criSocket: join(state, 'cri.sock'),
    kubeconfig: join(state, 'etc/admin.conf'),
    namespace: name,
    cgroup: `/${name}`,
    pools: join(state, 'pools'),
  };
}
