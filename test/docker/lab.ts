/** The environment of a test's daemons: a directory, and names for namespaces and cgroups, all of which are removed at the end. */
import { mkdir, mkdtemp, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { eventually, FinalError, run } from '../../scripts/command.ts';
import { mountsBelow } from '../helpers/scratch-pool.ts';
import { packBusybox } from '../images/busybox.ts';
import { claimLab, labPrefix, removeDeadLabs, removeLab } from './lab-leftovers.ts';
import { type Service, startService } from './processes.ts';

/** The name has no registry, so nothing is ever pulled for it. */
export const busybox = 'localhost/busybox:lab';
/** Files of the image at the path where tests mount a volume. docker copies them to an empty volume. */
export const content = { 'content/hello': 'from the image\n' } as const;

export interface Lab {
  readonly directory: string;
  /** The prefix of every name outside the directory. */
  readonly name: string;
  readonly cgroup: string;
  readonly imageArchive: string;
  /** Registers a cleanup for the end. The last registered cleanup runs first. */
  atEnd(work: () => Promise<void>): void;
  /** Ends and removes everything, and returns what should no longer have existed. */
  close(): Promise<readonly string[]>;
}

/** The directory is a shared mount: mounts below it are visible in namespaces that are created later. */
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
      const errors: string[] = [];
      for (const work of endings) {
        await work().catch((error: unknown) => {
          errors.push(String(error));
        });
      }
      return [...errors, ...(await removeLab(directory))];
    },
  };
}

/** A network namespace and a process that keeps a mount namespace open, for one node of the lab. */
export interface NodeSpace {
  readonly directory: string;
  readonly netns: string;
  /** The prefix of a command that makes it run in the node. */
  readonly enter: readonly string[];
  /** This directory is /run/docker/plugins in the node. */
  readonly plugins: string;
}

/** Directories that daemons write to regardless of their flags. In a node, a directory of the lab is mounted over each. */
const caught = ['/run', '/var/lib', '/etc'] as const;

/** Outside mounts are visible in the node (slave propagation); the node's own mounts end with it. */
export async function makeNode(lab: Lab, name: string): Promise<NodeSpace> {
  const directory = join(lab.directory, name);
  const plugins = join(directory, 'plugins');
  await mkdir(plugins, { recursive: true });
  const netns = `${lab.name}-${name}`;
  await run('ip', ['netns', 'add', netns]);
  await run('ip', ['-netns', netns, 'link', 'set', 'lo', 'up']);
  const net = `--net=/run/netns/${netns}`;
  const log = join(directory, 'namespace.log');
  const namespaceProcess = await startService(
    ['nsenter', net, 'unshare', '--mount', '--propagation', 'slave', 'sh', '-c', keep(directory)],
    log,
  );
  await eventually(
    'the mount namespace of the node',
    async () => {
      if (namespaceProcess.hasEnded()) throw new FinalError(await readFile(log, 'utf8'));
      return hasPlugins(namespaceProcess, plugins);
    },
    { everyMs: 10 },
  );
  const enter = ['nsenter', `--target=${namespaceProcess.pid}`, '--mount', '--net'];
  lab.atEnd(async () => {
    const left = await mountsBelow(join(directory, 'driver'), namespaceProcess.pid);
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
  // dockerd looks for plugins there.
  const plugins = [
    'mkdir -p /run/docker/plugins',
    `mount --bind ${directory}/plugins /run/docker/plugins`,
  ];
  return [...layers, ...plugins, 'exec sleep infinity'].join(' && ');
}

async function hasPlugins(namespaceProcess: Service, plugins: string): Promise<true | undefined> {
  const table = await readFile(`/proc/${namespaceProcess.pid}/mountinfo`, 'utf8');
  const line = table.split('\n').find((one) => one.includes(' /run/docker/plugins '));
  return line?.includes(plugins) === true ? true : undefined;
}
