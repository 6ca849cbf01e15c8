/** What a cluster changes on the machine outside its state directory, and how that is taken back. */
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

/** The kubelet sets these for the whole machine. */
const kubeletSysctls = [
  'kernel/keys/root_maxbytes',
  'kernel/keys/root_maxkeys',
  'kernel/panic',
  'kernel/panic_on_oops',
  'vm/overcommit_memory',
  'vm/panic_on_oom',
];

/** A veth pair carries the node's address, so that there is a default route for service addresses to be rewritten on. */
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

/** Mounts made in pods must come out to the kubelet, which takes a shared mount; the machine's root may be private. */
export async function shareState(layout: Layout): Promise<void> {
  await run('mount', ['--bind', layout.state, layout.state]);
  await run('mount', ['--make-rshared', layout.state]);
  if (layout.kubeletDir.startsWith(`${layout.state}/`)) return;
  // Some cases of Kubernetes' own suite know no other directory than /var/lib/kubelet.
  await mkdir(layout.kubeletDir, { recursive: true });
  const pods = await readdir(join(layout.kubeletDir, 'pods')).catch(() => []);
  if (pods.length > 0) throw new Error(`${layout.kubeletDir} holds another kubelet's pods`);
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

/** Unmounts everything below the cluster's directories but `kept`; what is busy is detached lazily. */
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
 * Attached loop devices of the cluster. Those of volumes carry the node's tag in their image's path; what comes before it is
 * told from the driver's own mount namespace, so it may begin anywhere.
 */
export async function loopDevicesOf(layout: Layout, volumeId?: string): Promise<string[]> {
  const mark = volumeId === undefined ? `.${await nodeTagOf(layout)}/` : `/${volumeId}/`;
  const root = `${layout.state}/`;
  const columns = ['--noheadings', '--output', 'NAME,BACK-INO,BACK-FILE'];
  const devices = (await run('losetup', ['--list', ...columns])).split('\n').flatMap((line) => {
    const [, name = '', inode = '', path = ''] = /^(\S+)\s+(\d+)\s+(.*)$/.exec(line.trim()) ?? [];
    return name === '' ? [] : [{ name, inode, path }];
  });
  const embedded = volumeId === undefined ? await embeddedInodes(layout) : [];
  const own = devices.filter(
    ({ inode, path }) =>
      path.includes(mark) ||
      (volumeId === undefined && path.startsWith(root)) ||
      (embedded.includes(inode) && path.endsWith('/reflink.img')),
  );
  // The kubelet puts a loop device of its own on the device node of a raw block volume.
  const nodes = await Promise.all(own.map(async ({ name }) => String((await stat(name)).ino)));
  const stacked = devices.filter(
    ({ inode, path }) => nodes.includes(inode) && /^\/(?:dev\/)?(?:loop\d+)?$/.test(path),
  );
  return [...stacked, ...own].map(({ name }) => name);
}

/** Images that pools lie in. */
async function embeddedInodes(layout: Layout): Promise<string[]> {
  const pools = await readdir(layout.pools).catch(() => []);
  const found = await Promise.all(
    pools.map(async (pool) => stat(join(layout.pools, pool, 'reflink.img')).catch(() => undefined)),
  );
  return found.flatMap((one) => (one === undefined ? [] : [String(one.ino)]));
}

/** The end of all volume ids of this cluster's node, as its first pool knows it; a word that no path holds before that. */
async function nodeTagOf(layout: Layout): Promise<string> {
  const marker = await readFile(join(layout.pools, 'default/pool.json'), 'utf8').catch(() => '');
  return /"nodeTag": "(\w+)"/.exec(marker)?.[1] ?? 'no pool yet';
}

/** Detaches them all; one that another lies on goes in a later round. */
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

/** The kubelet wants its cgroup root to exist beforehand; with cgroup v1 in every hierarchy, its cpuset filled in. */
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

/** Process ids of everything that runs in pods. */
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

/** containerd's shims outlive it; ours have our socket on their command line. */
export async function shimProcesses(layout: Layout): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map(async (pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  );
  const ours = (line: string): boolean =>
    line.includes('containerd-shim') && line.split('\0').includes(layout.criSocket);
  return pids.filter((_, index) => ours(lines[index] ?? '')).map(Number);
}

/** What was there before the first of several clusters at once; the last one puts it back. */
const keptSysctls = '/run/loopcsi-e2e-sysctls.json';

/** To be called once the cluster has its network namespace, by which others see it. */
export async function keepSysctls(): Promise<void> {
  const kept: Record<string, string> = {};
  for (const name of kubeletSysctls) {
    kept[name] = (await readFile(join('/proc/sys', name), 'utf8')).trim();
  }
  // There already: another cluster is up, or was killed and has put nothing back.
  await writeFile(keptSysctls, JSON.stringify(kept), { flag: 'wx' }).catch(() => undefined);
}

/** To be called when the cluster's network namespace is gone. */
export async function restoreSysctls(): Promise<void> {
  const namespaces = await readdir('/run/netns').catch(() => []);
  if (namespaces.some((name) => name.startsWith(namespacePrefix))) return;
  const kept: unknown = JSON.parse(await readFile(keptSysctls, 'utf8').catch(() => '{}'));
  for (const [name, value] of Object.entries(kept ?? {})) {
    if (kubeletSysctls.includes(name)) await writeFile(join('/proc/sys', name), String(value));
  }
  await rm(keptSysctls, { force: true });
}

/** The kubelet links pod logs from here, whatever its own directory. */
export async function removeLogLinks(layout: Layout): Promise<void> {
  const links = '/var/log/containers';
  for (const name of await readdir(links).catch(() => [])) {
    const target = await readlink(join(links, name)).catch(() => '');
    if (target.startsWith(`${layout.state}/`)) await rm(join(links, name), { force: true });
  }
}

/** Copies the logs to where they outlive the cluster. */
export async function keepLogs(layout: Layout, target: string): Promise<void> {
  await cp(layout.logs, target, { recursive: true, dereference: true });
}
