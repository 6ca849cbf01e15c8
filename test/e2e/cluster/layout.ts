/** The paths, names and addresses of a cluster, all derived from its state directory and its number of nodes. */
import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** A simulated machine. The control plane has one, and each node. */
export interface HostLayout {
  readonly name: string;
  /** Its network namespace: its addresses exist nowhere else on this machine. */
  readonly namespace: string;
  readonly address: string;
  readonly logs: string;
  /** Process IDs of the started processes. */
  readonly processes: string;
}

export interface NodeLayout extends HostLayout {
  /** Everything on the node's disk. In the node's mount namespace, parts of it are bound at `nodePaths`. */
  readonly directory: string;
  readonly settings: string;
  readonly criSocket: string;
  /** The parent cgroup of the node's pods. */
  readonly cgroup: string;
  readonly podSubnet: string;
  /** The end of the node's cable at the bridge of the control plane. */
  readonly port: string;
}

export interface Layout {
  readonly state: string;
  readonly logs: string;
  readonly pki: string;
  readonly settings: string;
  readonly kubeconfig: string;
  /** The parent cgroup of all nodes. */
  readonly cgroup: string;
  readonly control: HostLayout;
  readonly nodes: readonly NodeLayout[];
}

/** Paths that are the same on every node, as the host paths of a DaemonSet must be, but have content of their own on each. */
export const nodePaths = {
  kubelet: '/var/lib/kubelet',
  driver: '/var/lib/loopcsi',
  /** The directory of the tests' pools. */
  pools: '/var/lib/loopcsi/pools',
} as const;

/** Inside the network namespaces of the cluster, so two clusters do not collide. */
export const addresses = {
  control: '10.255.0.1',
  pods: '10.244.0.0/16',
  services: '10.96.0.0/16',
  apiService: '10.96.0.1',
} as const;

/** The prefix of the network namespaces and cgroups of all clusters. */
export const namespacePrefix = 'loopcsi-e2e-';

/** Unix sockets are below the state directory, and their paths are limited to 107 bytes. */
const longestState = 40;
const mostNodes = 99;

export function layoutOf(state: string, nodeCount: number): Layout {
  if (state.length > longestState) {
    throw new Error(
      `${state} is too long for the unix sockets below it: set TMPDIR to a short path`,
    );
  }
  if (!Number.isInteger(nodeCount) || nodeCount < 1 || nodeCount > mostNodes) {
    throw new Error(`a cluster has 1 to ${mostNodes} nodes, not ${nodeCount}`);
  }
  const hash = createHash('sha256').update(state).digest('hex').slice(0, 8);
  const name = `${namespacePrefix}${hash}`;
  const logs = join(state, 'log');
  const nodeOf = (index: number): NodeLayout => {
    const directory = join(state, 'nodes', String(index));
    return {
      // Unique for each cluster, as is the node tag of its volume ids, which identifies the cluster of a leftover.
      name: `node-${hash}-${index}`,
      namespace: `${name}-${index}`,
      address: `10.255.0.${100 + index}`,
      logs: join(logs, `node-${index}`),
      processes: join(directory, 'run'),
      directory,
      settings: join(directory, 'etc'),
      criSocket: join(directory, 'cri.sock'),
      cgroup: `/${name}/${index}`,
      podSubnet: `10.244.${index}.0/24`,
      port: `node-${index}`,
    };
  };
  return {
    state,
    logs,
    pki: join(state, 'pki'),
    settings: join(state, 'etc'),
    kubeconfig: join(state, 'etc/admin.conf'),
    cgroup: `/${name}`,
    control: {
      name: 'control',
      namespace: name,
      address: addresses.control,
      logs,
      processes: join(state, 'run'),
    },
    nodes: Array.from({ length: nodeCount }, (_, index) => nodeOf(index + 1)),
  };
}

/** The layout of a cluster that exists below this directory. */
export async function findLayout(state: string): Promise<Layout> {
  const nodes = await readdir(join(state, 'nodes')).catch(() => []);
  if (nodes.length === 0) throw new Error(`there is no cluster in ${state}`);
  return layoutOf(state, nodes.length);
}
