/** A place for daemons of a test: a directory, names for namespaces and cgroups, and all of it gone at the end. */
import { access, mkdir, mkdtemp, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { attempt, eventually, run } from '../../scripts/command.ts';
import { packBusybox } from '../../scripts/images/busybox.ts';
import { devicesBelow, mountsBelow } from '../helpers/ground.ts';
import {
  killAll,
  processesInCgroup,
  processesNaming,
  type Service,
  startService,
} from './processes.ts';

/** Without a registry in its name, so that nothing would ever be pulled for it. */
export const busybox = 'localhost/busybox:lab';
/** What the image holds where tests put a volume: copied into an empty one by docker. */
export const content = { 'content/hello': 'from the image\n' } as const;

export interface Lab {
  readonly directory: string;
  /** Start of every name outside the directory. */
  readonly name: string;
  readonly cgroup: string;
  readonly imageArchive: string;
  /** Registers what has to happen at the end; the last registered comes first. */
  atEnd(work: () => Promise<void>): void;
  /** Ends all, and answers what should not have been there any more. */
  close(): Promise<readonly string[]>;
}

/** The directory is a shared mount: what is mounted below it is seen in the namespaces made after it. */
export async function openLab(): Promise<Lab> {
  // Short: unix sockets lie below it, and their paths end at 107 bytes.
  const directory = await mkdtemp('/tmp/lcsi-');
  const name = basename(directory);
  await run('mount', ['--bind', directory, directory]);
  await run('mount', ['--make-shared', directory]);
  const endings: (() => Promise<void>)[] = [];
  const imageArchive = join(directory, 'busybox.tar');
  await packBusybox(imageArchive, { names: [busybox], files: content });
  return {
    directory,
    name,
    cgroup: name,
    imageArchive,
    atEnd: (work) => {
      endings.unshift(work);
    },
    close: async () => {
      const trouble: string[] = [];
      for (const work of endings) {
        await work().catch((error: unknown) => {
          trouble.push(String(error));
        });
      }
      await killAll('containers', () => processesInCgroup(name));
      await killAll('shims', () => processesNaming(`${directory}/`));
      trouble.push(...(await leftovers(directory)));
      await removeCgroups(name);
      await attempt('umount', ['--recursive', directory]);
      await rm(directory, { recursive: true, force: true });
      return trouble;
    },
  };
}

/** Mounts and loop devices below the directory: with every container and volume removed there must be none. */
async function leftovers(directory: string): Promise<string[]> {
  const left: string[] = [];
  for (const target of (await mountsBelow(directory)).reverse()) {
    left.push(`mount ${target}`);
    await attempt('umount', ['--lazy', target]);
  }
  for (const { device, image } of await devicesBelow(directory)) {
    left.push(`${device} on ${image}`);
    await attempt('losetup', ['--detach', device]);
  }
  return left;
}

async function removeCgroups(name: string): Promise<void> {
  const root = '/sys/fs/cgroup';
  const hierarchies = await access(join(root, 'cgroup.controllers')).then(
    () => [root],
    async () => (await readdir(root)).map((one) => join(root, one)),
  );
  for (const hierarchy of hierarchies) {
    const top = join(hierarchy, name);
    const below = await readdir(top, { recursive: true, withFileTypes: true }).catch(() => []);
    const directories = below
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name));
    for (const one of [top, ...directories.sort()].reverse())
      await rmdir(one).catch(() => undefined);
  }
}

/** A network namespace, and a process that keeps a mount namespace, for one node of the lab. */
export interface NodeSpace {
  readonly directory: string;
  readonly netns: string;
  /** What to put before a command so that it runs in the node. */
  readonly enter: readonly string[];
  /** In the node this directory is /run/docker/plugins. */
  readonly plugins: string;
}

/** Mounts made outside are seen in the node (slave propagation); what the node mounts ends with it. */
export async function makeNode(lab: Lab, name: string): Promise<NodeSpace> {
  const directory = join(lab.directory, name);
  const plugins = join(directory, 'plugins');
  await mkdir(plugins, { recursive: true });
  // Where dockerd looks; the node's own directory is bound over it in the node's mount namespace alone.
  await mkdir('/run/docker/plugins', { recursive: true });
  const netns = `${lab.name}-${name}`;
  await run('ip', ['netns', 'add', netns]);
  lab.atEnd(async () => {
    await run('ip', ['netns', 'delete', netns]);
  });
  await run('ip', ['-netns', netns, 'link', 'set', 'lo', 'up']);
  const keep = 'mount --bind "$0" /run/docker/plugins && exec sleep infinity';
  const net = `--net=/run/netns/${netns}`;
  const holder = await startService(
    ['nsenter', net, 'unshare', '--mount', '--propagation', 'slave', 'sh', '-c', keep, plugins],
    join(directory, 'holder.log'),
  );
  lab.atEnd(async () => holder.end('SIGKILL'));
  await eventually('the mount namespace of the node', () => hasPlugins(holder, plugins), {
    timeoutMs: 5_000,
    everyMs: 10,
  });
  const enter = ['nsenter', `--target=${holder.pid}`, '--mount', '--net'];
  return { directory, netns, enter, plugins };
}

async function hasPlugins(holder: Service, plugins: string): Promise<true | undefined> {
  const table = await readFile(`/proc/${holder.pid}/mountinfo`, 'utf8');
  const line = table.split('\n').find((one) => one.includes(' /run/docker/plugins '));
  return line?.includes(plugins) === true ? true : undefined;
}
