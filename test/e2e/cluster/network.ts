/**
 * The network of a cluster. The control plane's namespace has a bridge, to which each node's namespace is connected by a veth pair.
 * Every host has routes to the pods of every node, as with a CNI plugin that routes. Nothing leads to the machine's network.
 */
import { attempt, run } from '../../../scripts/command.ts';
import { addresses, type HostLayout, type Layout, type NodeLayout } from './layout.ts';

const bridge = 'br0';

async function ip(host: HostLayout, ...args: readonly string[]): Promise<void> {
  await run('ip', ['-netns', host.namespace, ...args]);
}

async function makeNamespace(host: HostLayout, sysctls: readonly string[]): Promise<void> {
  await run('ip', ['netns', 'add', host.namespace]);
  await ip(host, 'link', 'set', 'lo', 'up');
  await run('nsenter', [`--net=/run/netns/${host.namespace}`, 'sysctl', '-q', '-w', ...sysctls]);
}

export async function makeNetwork(layout: Layout): Promise<void> {
  const { control, nodes } = layout;
  // Frames between nodes are not filtered on their way.
  await makeNamespace(control, ['net.bridge.bridge-nf-call-iptables=0']);
  await ip(control, 'link', 'add', bridge, 'type', 'bridge');
  await ip(control, 'address', 'add', `${control.address}/24`, 'dev', bridge);
  await ip(control, 'link', 'set', bridge, 'up');
  await Promise.all(nodes.map(async (node) => connectNode(layout, node)));
  for (const { podSubnet, address } of nodes) {
    await ip(control, 'route', 'add', podSubnet, 'via', address);
  }
  // Without a kube-proxy of its own, the control plane reaches services through that of the first node.
  const [first] = nodes;
  await ip(control, 'route', 'add', addresses.services, 'via', first?.address ?? '');
}

async function connectNode({ control, nodes }: Layout, node: NodeLayout): Promise<void> {
  await makeNamespace(node, ['net.ipv4.ip_forward=1', 'net.bridge.bridge-nf-call-iptables=1']);
  const cable = ['type', 'veth', 'peer', 'name', 'eth0', 'netns', node.namespace];
  await ip(control, 'link', 'add', node.port, ...cable);
  await ip(control, 'link', 'set', node.port, 'master', bridge, 'up');
  await ip(node, 'address', 'add', `${node.address}/24`, 'dev', 'eth0');
  await ip(node, 'link', 'set', 'eth0', 'up');
  // Service addresses need a route on which they are rewritten.
  await ip(node, 'route', 'add', 'default', 'via', control.address);
  for (const other of nodes) {
    if (other !== node) await ip(node, 'route', 'add', other.podSubnet, 'via', other.address);
  }
}

/** Pulls the node's cable, or plugs it in again. The node keeps its addresses and routes. */
export async function setCable(
  { control }: Layout,
  node: NodeLayout,
  state: 'up' | 'down',
): Promise<void> {
  await ip(control, 'link', 'set', node.port, state);
}

export async function removeNetwork({ control, nodes }: Layout): Promise<void> {
  for (const { namespace } of [...nodes, control]) {
    await attempt('ip', ['netns', 'delete', namespace]);
  }
}

/** IDs of all processes in the host's network namespace: also those that no file of the cluster names. */
export async function namespaceProcesses(host: HostLayout): Promise<number[]> {
  const { stdout } = await attempt('ip', ['netns', 'pids', host.namespace]);
  return stdout
    .split('\n')
    .filter((pid) => pid !== '')
    .map(Number);
}
