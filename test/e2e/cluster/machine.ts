/** The changes of a cluster to the machine outside its state directory, and how they are undone. */
import { existsSync } from 'node:fs';
import {
  cp,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  rmdir,
  stat,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { attempt, run } from '../../../scripts/command.ts';
import { eventually } from '../eventually.ts';
import { type Layout, type NodeLayout, namespacePrefix, nodePaths } from './layout.ts';

/** The kubelet sets these for the entire machine. */
const kubeletSysctls = [
  'kernel/keys/root_maxbytes',
  'kernel/keys/root_maxkeys',
  'kernel/panic',
  'kernel/panic_on_oops',
  'vm/overcommit_memory',
  'vm/panic_on_oom',
];

/**
 * Attached loop devices of a node. The image path of a volume's device has the node's tag. The part of the path before it belongs
 * to the driver's mount namespace, so it can be any directory.
 */
export async function loopDevicesOf(node: NodeLayout, volumeId?: string): Promise<string[]> {
  const part =
    volumeId === undefined ? `.${(await nodeTagOf(node)) ?? 'no pool yet'}/` : `/${volumeId}/`;
  const root = `${node.directory}/`;
  const columns = ['--noheadings', '--output', 'NAME,BACK-INO,BACK-FILE'];
  const devices = (await run('losetup', ['--list', ...columns])).split('\n').flatMap((line) => {
    const [, name = '', inode = '', path = ''] = /^(\S+)\s+(\d+)\s+(.*)$/.exec(line.trim()) ?? [];
    return name === '' ? [] : [{ name, inode, path }];
  });
  const embedded = volumeId === undefined ? await embeddedInodes(node) : [];
  const own = devices.filter(
    ({ inode, path }) =>
      path.includes(part) ||
      (volumeId === undefined && path.startsWith(root)) ||
      (embedded.includes(inode) && path.endsWith('/reflink.img')),
  );
  // The kubelet attaches its own loop device to the device node of a raw block volume.
  const deviceInodes = await Promise.all(
    own.map(async ({ name }) => String((await stat(name)).ino)),
  );
  const stacked = devices.filter(
    ({ inode, path }) => deviceInodes.includes(inode) && /^\/(?:dev\/)?(?:loop\d+)?$/.test(path),
  );
  return [...stacked, ...own].map(({ name }) => name);
}

/** The directory of the pools on the node's disk: without what is mounted in it. */
const poolsOnDisk = (node: NodeLayout): string => join(node.directory, 'loopcsi/pools');

/** Inodes of the images of embedded pools. */
async function embeddedInodes(node: NodeLayout): Promise<string[]> {
  const pools = poolsOnDisk(node);
  const found = await Promise.all(
    (await readdir(pools).catch(() => [])).map(async (pool) =>
      stat(join(pools, pool, 'reflink.img')).catch(() => undefined),
    ),
  );
  return found.flatMap((one) => (one === undefined ? [] : [String(one.ino)]));
}

/** The node tag, with which all volume ids of this node end, from its first pool. Undefined before that exists. */
export async function nodeTagOf(node: NodeLayout): Promise<string | undefined> {
  const marker = join(poolsOnDisk(node), 'default/pool.json');
  const text = await readFile(marker, 'utf8').catch(() => '');
  return /"nodeTag": "(\w+)"/.exec(text)?.[1];
}

/** Detaches all of them; a device that is in use by another one is detached in a later round. */
export async function detachLoopDevices(node: NodeLayout): Promise<void> {
  await eventually(`all loop devices of ${node.name} to be detached`, async () => {
    const devices = await loopDevicesOf(node);
    for (const device of devices) await attempt('losetup', ['--detach', device]);
    return devices.length === 0 ? true : undefined;
  });
}

async function hierarchies(): Promise<string[]> {
  const root = '/sys/fs/cgroup';
  const isUnified = await stat(join(root, 'cgroup.controllers')).then(
    () => true,
    () => false,
  );
  if (isUnified) return [root];
  const entries = await readdir(root, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => join(root, entry.name));
}

/** The kubelet needs an existing cgroup root; with cgroup v1 in every hierarchy, with a filled cpuset. */
export async function makeCgroups(layout: Layout): Promise<void> {
  for (const hierarchy of await hierarchies()) {
    for (const cgroup of [layout.cgroup, ...layout.nodes.map((node) => node.cgroup)]) {
      const own = join(hierarchy, cgroup);
      await mkdir(own, { recursive: true });
      for (const file of ['cpuset.cpus', 'cpuset.mems']) {
        const inherited = await readFile(join(own, '..', file), 'utf8').catch(() => undefined);
        if (inherited !== undefined)
          await writeFile(join(own, file), inherited).catch(() => undefined);
      }
    }
  }
}

/** Process IDs of all processes in pods of the node. */
export async function podProcesses(node: NodeLayout): Promise<number[]> {
  const found = new Set<number>();
  for (const hierarchy of await hierarchies()) {
    for (const directory of await cgroupTree(join(hierarchy, node.cgroup))) {
      const list = await readFile(join(directory, 'cgroup.procs'), 'utf8').catch(() => '');
      for (const pid of list.split('\n')) if (pid !== '') found.add(Number(pid));
    }
  }
  return [...found];
}

export async function removeCgroups(layout: Layout): Promise<void> {
  for (const hierarchy of await hierarchies()) {
    const tree = await cgroupTree(join(hierarchy, layout.cgroup));
    for (const directory of tree.reverse()) await rmdir(directory).catch(() => undefined);
  }
}

/** The cgroup and all below it, outermost first. */
async function cgroupTree(top: string): Promise<string[]> {
  const entries = await readdir(top, { recursive: true, withFileTypes: true }).catch(
    () => undefined,
  );
  if (entries === undefined) return [];
  const below = entries
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name));
  return [top, ...below.sort()];
}

/** containerd's shims outlive it; the shims of this node have its socket on their command line. */
export async function shimProcesses(node: NodeLayout): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map(async (pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  );
  const ours = (line: string): boolean =>
    line.includes('containerd-shim') && line.split('\0').includes(node.criSocket);
  return pids.filter((_, index) => ours(lines[index] ?? '')).map(Number);
}

/** The file with what the machine was like before the first of several concurrent clusters. The last one restores it. */
const keptFile = '/run/loopcsi-e2e-machine.json';

const keptSchema = v.object({
  sysctls: v.record(v.string(), v.string()),
  /** Directories that did not exist. */
  missing: v.array(v.string()),
});

/** Call this once the cluster has its network namespace, by which other clusters detect it. Makes the mount points of the nodes. */
export async function keepMachine(): Promise<void> {
  const sysctls: Record<string, string> = {};
  for (const name of kubeletSysctls) {
    sysctls[name] = (await readFile(join('/proc/sys', name), 'utf8')).trim();
  }
  const mountPoints = [nodePaths.kubelet, nodePaths.driver];
  const missing = mountPoints.filter((path) => !existsSync(path));
  // The file exists: another cluster runs, or was killed and has restored nothing.
  await writeFile(keptFile, JSON.stringify({ sysctls, missing }), { flag: 'wx' }).catch(
    () => undefined,
  );
  for (const path of mountPoints) await mkdir(path, { recursive: true });
}

/** Call this once the cluster's network namespaces are removed. */
export async function restoreMachine(): Promise<void> {
  const namespaces = await readdir('/run/netns').catch(() => []);
  if (namespaces.some((name) => name.startsWith(namespacePrefix))) return;
  const text = await readFile(keptFile, 'utf8').catch(() => undefined);
  if (text === undefined) return;
  const { sysctls, missing } = v.parse(keptSchema, JSON.parse(text));
  for (const [name, value] of Object.entries(sysctls)) {
    if (kubeletSysctls.includes(name)) await writeFile(join('/proc/sys', name), value);
  }
  // A program that started meanwhile may use them: only empty ones are removed.
  for (const path of missing) await rmdir(path).catch(() => undefined);
  await rm(keptFile, { force: true });
}

/** The kubelet creates links to pod logs here, even if its own directory is elsewhere. */
export async function removeLogLinks(layout: Layout): Promise<void> {
  const links = '/var/log/containers';
  for (const name of await readdir(links).catch(() => [])) {
    const target = await readlink(join(links, name)).catch(() => '');
    if (target.startsWith(`${layout.state}/`)) await rm(join(links, name), { force: true });
  }
}

/** Copies the logs to a directory that is kept after the cluster. */
export async function keepLogs(layout: Layout, target: string): Promise<void> {
  await cp(layout.logs, target, { recursive: true, dereference: true });
}
