/** A place for daemons of a test: a directory, names for namespaces and cgroups, and all of it gone at the end. */
import { mkdir, mkdtemp, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { eventually, run } from '../../scripts/command.ts';
import { mountsBelow } from '../helpers/scratch-pool.ts';
import { packBusybox } from '../images/busybox.ts';
import { type Service, startService } from './processes.ts';
import { claimLab, labPrefix, removeDeadLabs, removeLab } from './remains.ts';

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
  await removeDeadLabs();
  const directory = await mkdtemp(labPrefix);
  await claimLab(directory);
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
      return [...trouble, ...(await removeLab(directory))];
    },
  };
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

/** Directories that daemons write to, whatever they are told: in a node the lab catches it. */
const caught = ['/run', '/var/lib', '/etc'] as const;

/** Mounts made outside are seen in the node (slave propagation); what the node mounts ends with it. */
export async function makeNode(lab: Lab, name: string): Promise<NodeSpace> {
  const directory = join(lab.directory, name);
  const plugins = join(directory, 'plugins');
  await mkdir(plugins, { recursive: true });
  const netns = `${lab.name}-${name}`;
  await run('ip', ['netns', 'add', netns]);
  await run('ip', ['-netns', netns, 'link', 'set', 'lo', 'up']);
  const net = `--net=/run/netns/${netns}`;
  const log = join(directory, 'holder.log');
  const holder = await startService(
    ['nsenter', net, 'unshare', '--mount', '--propagation', 'slave', 'sh', '-c', keep(directory)],
    log,
  );
  await eventually(
    'the mount namespace of the node',
    async () => {
      if (holder.hasEnded()) throw new Error(await readFile(log, 'utf8'));
      return hasPlugins(holder, plugins);
    },
    { everyMs: 10 },
  );
  const enter = ['nsenter', `--target=${holder.pid}`, '--mount', '--net'];
  lab.atEnd(async () => {
    const left = await mountsBelow(join(directory, 'driver'), holder.pid);
    if (left.length > 0) throw new Error(`mounted in node ${name}: ${left.join(', ')}`);
  });
  return { directory, netns, enter, plugins };
}

function keep(directory: string): string {
  const layers = caught.flatMap((path) => {
    const layer = join(directory, 'layers', path);
    const options = `lowerdir=${path},upperdir=${layer}/upper,workdir=${layer}/work`;
    return [
      `mkdir -p ${layer}/upper ${layer}/work`,
      `mount -t overlay -o ${options} overlay ${path}`,
    ];
  });
  // Where dockerd looks for plugins.
  const plugins = [
    'mkdir -p /run/docker/plugins',
    `mount --bind ${directory}/plugins /run/docker/plugins`,
  ];
  return [...layers, ...plugins, 'exec sleep infinity'].join(' && ');
}

async function hasPlugins(holder: Service, plugins: string): Promise<true | undefined> {
  const table = await readFile(`/proc/${holder.pid}/mountinfo`, 'utf8');
  const line = table.split('\n').find((one) => one.includes(' /run/docker/plugins '));
  return line?.includes(plugins) === true ? true : undefined;
}
