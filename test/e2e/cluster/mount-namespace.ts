/**
 * The mount namespace of a node. A sleeping process keeps it alive; when that and all other processes of the node have ended, the
 * kernel unmounts everything that was mounted in it. The machine's own mounts never change.
 */
import { mkdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../scripts/command.ts';
import { eventually } from '../eventually.ts';
import { type NodeLayout, nodePaths } from './layout.ts';
import { findProcess, startProcess } from './processes.ts';

const keeper = 'mount-namespace';

/** What the node has at `nodePaths`. The pools are below the driver's directory. */
const binds = (node: NodeLayout): readonly (readonly [string, string])[] => [
  [join(node.directory, 'kubelet'), nodePaths.kubelet],
  [join(node.directory, 'loopcsi'), nodePaths.driver],
];

/** `needed` are directories that the node's processes must reach. */
export async function makeMountNamespace(
  node: NodeLayout,
  needed: readonly string[],
): Promise<void> {
  const sleep = ['unshare', '--mount', '--propagation', 'private', 'sleep', 'infinity'];
  await startProcess(node, keeper, ['nsenter', `--net=/run/netns/${node.namespace}`, ...sleep]);
  const machine = await readlink('/proc/self/ns/mnt');
  const enter = await eventually(`the mount namespace of ${node.name}`, async () => {
    const path = await mountNamespaceOf(node);
    return (await readlink(path)) === machine ? undefined : [`--mount=${path}`];
  });
  const foreign = (await mountPointsOf(node)).filter((target) => !isKept(target, needed));
  if (foreign.length > 0) await run('nsenter', [...enter, 'umount', '--lazy', ...foreign]);
  // Bound while all mounts are private: otherwise what is mounted at the target would appear at the source too.
  for (const [source, target] of binds(node)) {
    await mkdir(source, { recursive: true });
    await run('nsenter', [...enter, 'mount', '--bind', source, target]);
  }
  // Mounts of the driver's pod must propagate to the kubelet and to other pods, for which the runtime wants shared mounts.
  await run('nsenter', [...enter, 'mount', '--make-rshared', '/']);
}

/** The path to enter it with. Throws if the node has none, as after it was powered off. */
export async function mountNamespaceOf(node: NodeLayout): Promise<string> {
  return `${await processDirectory(node)}/ns/mnt`;
}

/** The root directory as the node sees it, for processes outside the node. */
export async function rootOf(node: NodeLayout): Promise<string> {
  return `${await processDirectory(node)}/root`;
}

async function processDirectory(node: NodeLayout): Promise<string> {
  const pid = await findProcess(node, keeper);
  if (pid === undefined) throw new Error(`${node.name} is powered off`);
  return `/proc/${pid}`;
}

/** Mount points in the node, innermost and topmost first. */
export async function mountPointsOf(node: NodeLayout): Promise<string[]> {
  const table = await readFile(`${await processDirectory(node)}/mountinfo`, 'utf8');
  const lines = table.split('\n').filter((line) => line !== '');
  return lines.map((line) => line.split(' ')[4] ?? '').reverse();
}

const systemDirectories = ['/', '/etc', '/run', '/tmp', '/usr', '/var', '/var/lib', '/var/log'];

/**
 * The copy of any other mount, for example of another cluster's volume, would keep its filesystem in use after it was unmounted on the
 * machine.
 */
function isKept(target: string, needed: readonly string[]): boolean {
  const isOnTheWay = needed.some((path) => `${path}/`.startsWith(`${target}/`));
  return (
    systemDirectories.includes(target) || isOnTheWay || /^\/(?:proc|sys|dev)(?:\/|$)/.test(target)
  );
}
