/** The changes of a cluster to the machine outside its state directory, and how they are undone. */
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
import { attempt, eventually, run } from '../../../scripts/command.ts';
import { addresses, type Layout, namespacePrefix } from './layout.ts';

/** The kubelet sets these for the entire machine. */
const kubeletSysctls = [
  'kernel/keys/root_maxbytes',
  'kernel/keys/root_maxkeys',
  'kernel/panic',
  'kernel/panic_on_oops',
  'vm/overcommit_memory',
  'vm/panic_on_oom',
];

/** A veth pair carries the node's address, so that service addresses have a default route on which they are rewritten. */
export async function makeNetwork(layout: Layout): Promise<void> {
  const name = layout.namespace;
  const ip = async (...args: string[]): Promise<string> => run('ip', ['-netns', name, ...args]);
  await run('ip', ['netns', 'add', name]);
  await ip('link', 'set', 'lo', 'up');
  await ip('link', 'add', 'node0', 'type', 'veth', 'peer', 'name', 'node0-peer');
  await ip('address', 'add', `${addresses.node}/24`, 'dev', 'node0');
  await ip('link', 'set', 'node0-peer', 'up');
  await ip('link', 'set', 'node0', 'up');
  await ip('route', 'add', 'default', 'dev', 'node0');
  const sysctls = ['net.ipv4.ip_forward=1', 'net.bridge.bridge-nf-call-iptables=1'];
  await run('nsenter', [`--net=/run/netns/${name}`, 'sysctl', '-q', '-w', ...sysctls]);
}

export async function removeNetwork(layout: Layout): Promise<void> {
  await attempt('ip', ['netns', 'delete', layout.namespace]);
}

/** Mounts in pods must propagate to the kubelet, which needs a shared mount; the machine's root may be private. */
export async function shareState(layout: Layout): Promise<void> {
  await run('mount', ['--bind', layout.state, layout.state]);
  await run('mount', ['--make-rshared', layout.state]);
  if (layout.kubeletDir.startsWith(`${layout.state}/`)) return;
  // Some tests of Kubernetes' suite work only with /var/lib/kubelet.
  await mkdir(layout.kubeletDir, { recursive: true });
  const pods = await readdir(join(layout.kubeletDir, 'pods')).catch(() => []);
  if (pods.length > 0) throw new Error(`${layout.kubeletDir} has pods of another kubelet`);
  await run('mount', ['--bind', join(layout.state, 'kubelet'), layout.kubeletDir]);
}

/** Mount points below the cluster's directories, innermost and topmost first. */
export async function mountsOf(layout: Layout): Promise<string[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  const targets = table.split('\n').map((line) => line.split(' ')[4] ?? '');
  const roots = [layout.state, layout.kubeletDir];
  return targets
    .filter((target) => roots.some((root) => `${target}/`.startsWith(`${root}/`)))
    .reverse();
}

/** Unmounts everything below the cluster's directories except `kept`; busy mounts are detached lazily. */
export async function unmountAll(layout: Layout, kept: readonly string[] = []): Promise<void> {
  for (let round = 0; round < 5; round += 1) {
    const targets = (await mountsOf(layout)).filter((target) => !kept.includes(target));
    if (targets.length === 0) return;
    for (const target of targets) {
      const { exitCode } = await attempt('umount', [target]);
      if (exitCode !== 0) await attempt('umount', ['--lazy', target]);
    }
  }
}

/**
 * Attached loop devices of the cluster. The image path of a volume's device has the node's tag. The part of the path before it
 * belongs to the driver's mount namespace, so it can be any directory.
 */
export async function loopDevicesOf(layout: Layout, volumeId?: string): Promise<string[]> {
  const part = volumeId === undefined ? `.${await nodeTagOf(layout)}/` : `/${volumeId}/`;
  const root = `${layout.state}/`;
  const columns = ['--noheadings', '--output', 'NAME,BACK-INO,BACK-FILE'];
  const devices = (await run('losetup', ['--list', ...columns])).split('\n').flatMap((line) => {
    const [, name = '', inode = '', path = ''] = /^(\S+)\s+(\d+)\s+(.*)$/.exec(line.trim()) ?? [];
    return name === '' ? [] : [{ name, inode, path }];
  });
  const embedded = volumeId === undefined ? await embeddedInodes(layout) : [];
  const own = devices.filter(
    ({ inode, path }) =>
      path.includes(part) ||
      (volumeId === undefined && path.startsWith(root)) ||
      (embedded.includes(inode) && path.endsWith('/reflink.img')),
  );
  // The kubelet attaches its own loop device to the device node of a raw block volume.
  const nodes = await Promise.all(own.map(async ({ name }) => String((await stat(name)).ino)));
  const stacked = devices.filter(
    ({ inode, path }) => nodes.includes(inode) && /^\/(?:dev\/)?(?:loop\d+)?$/.test(path),
  );
  return [...stacked, ...own].map(({ name }) => name);
}

/** Inodes of the images of embedded pools. */
async function embeddedInodes(layout: Layout): Promise<string[]> {
  const pools = await readdir(layout.pools).catch(() => []);
  const found = await Promise.all(
    pools.map(async (pool) => stat(join(layout.pools, pool, 'reflink.img')).catch(() => undefined)),
  );
  return found.flatMap((one) => (one === undefined ? [] : [String(one.ino)]));
}

/** The node tag, with which all volume ids of this node end, from its first pool. Before that, a text that is in no path. */
async function nodeTagOf(layout: Layout): Promise<string> {
  const marker = await readFile(join(layout.pools, 'default/pool.json'), 'utf8').catch(() => '');
  return /"nodeTag": "(\w+)"/.exec(marker)?.[1] ?? 'no pool yet';
}

/** Detaches all of them; a device that is in use by another one is detached in a later round. */
export async function detachLoopDevices(layout: Layout): Promise<void> {
  await eventually('all loop devices to be detached', async () => {
    const devices = await loopDevicesOf(layout);
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
    const own = join(hierarchy, layout.cgroup);
    await mkdir(own, { recursive: true });
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      const inherited = await readFile(join(hierarchy, file), 'utf8').catch(() => undefined);
      if (inherited !== undefined)
        await writeFile(join(own, file), inherited).catch(() => undefined);
    }
  }
}

/** Process IDs of all processes in pods. */
export async function podProcesses(layout: Layout): Promise<number[]> {
  const found = new Set<number>();
  for (const hierarchy of await hierarchies()) {
    for (const directory of await cgroupTree(join(hierarchy, layout.cgroup))) {
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

/** containerd's shims outlive it; the shims of this cluster have its socket on their command line. */
export async function shimProcesses(layout: Layout): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map(async (pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  );
  const ours = (line: string): boolean =>
    line.includes('containerd-shim') && line.split('\0').includes(layout.criSocket);
  return pids.filter((_, index) => ours(lines[index] ?? '')).map(Number);
}

/** The file with the settings from before the first of several concurrent clusters. The last one restores them. */
const keptSysctls = '/run/loopcsi-e2e-sysctls.json';

/** Call this once the cluster has its network namespace, by which other clusters detect it. */
export async function keepSysctls(): Promise<void> {
  const kept: Record<string, string> = {};
  for (const name of kubeletSysctls) {
    kept[name] = (await readFile(join('/proc/sys', name), 'utf8')).trim();
  }
  // The file exists: another cluster runs, or was killed and has restored nothing.
  await writeFile(keptSysctls, JSON.stringify(kept), { flag: 'wx' }).catch(() => undefined);
}

/** Call this once the cluster's network namespace is removed. */
export async function restoreSysctls(): Promise<void> {
  const namespaces = await readdir('/run/netns').catch(() => []);
  if (namespaces.some((name) => name.startsWith(namespacePrefix))) return;
  const kept: unknown = JSON.parse(await readFile(keptSysctls, 'utf8').catch(() => '{}'));
  for (const [name, value] of Object.entries(kept ?? {})) {
    if (kubeletSysctls.includes(name)) await writeFile(join('/proc/sys', name), String(value));
  }
  await rm(keptSysctls, { force: true });
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
