/** Where a cluster keeps what, and the names and addresses it uses: all of it follows from its state directory. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';

export interface Layout {
  readonly state: string;
  /** Its own in every cluster, and with it the end of every volume id: leftovers can be told apart. */
  readonly nodeName: string;
  readonly logs: string;
  readonly pki: string;
  readonly settings: string;
  /** Process ids of what was started. */
  readonly processes: string;
  readonly kubeletDir: string;
  readonly criSocket: string;
  readonly kubeconfig: string;
  /** Network namespace that holds the whole cluster: its addresses exist nowhere else. */
  readonly namespace: string;
  /** cgroup that all pods lie below. */
  readonly cgroup: string;
  /** Where the tests' pools lie on the node. */
  readonly pools: string;
}

/** Inside the cluster's own network namespace, so two clusters do not collide. */
export const addresses = {
  node: '10.255.0.1',
  pods: '10.244.0.0/24',
  services: '10.96.0.0/16',
  apiService: '10.96.0.1',
} as const;

/** How the network namespaces and cgroups of all clusters begin. */
export const namespacePrefix = 'loopcsi-e2e-';

/** Unix sockets lie below the state directory, and their paths end at 107 bytes. */
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
