/**
 * Several nodes on one machine, without Kubernetes: a driver in a network namespace for each, with pools, state and an id of its own,
 * and `loopcsi controller` in another namespace, which has a link to each node. Loop devices are shared, as between containers.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { type Client, makeClient } from '../../src/csi/client.ts';
import { topologyOfNode } from '../../src/rpc/topology.ts';
import { poolFiles } from '../../src/volumes/pool/layout.ts';
import { type Service, startService } from '../docker/processes.ts';
import { launcher } from './command-line.ts';
import { type DriverProcess, startDriver } from './driver.ts';
import { onScratch } from './root-scratch.ts';
import { devicesBelow } from './scratch-pool.ts';
import { until } from './until.ts';

const port = 9737;
/** npm has another program of that name, which comes first in the PATH of its scripts. */
const nft = '/usr/sbin/nft';
const addressOf = (index: number): string => `10.253.0.${index}`;

export interface LabNode {
  readonly id: string;
  /** Its pool is in the subdirectory `pool`. */
  readonly directory: string;
  /** The driver that runs now. */
  driver(): DriverProcess;
  /** HOST:PORT of its agent. */
  readonly address: string;
  /** Command prefix that gives a program its network. */
  readonly enter: readonly string[];
  /** Starts the driver again after `kill`. */
  start(): Promise<void>;
  kill(): Promise<void>;
  /** Stops the process without ending it, as a hang does, and lets it continue. */
  hang(): void;
  resume(): void;
  /** Takes its link to the controller and to the other nodes down, and up again. */
  cut(): Promise<unknown>;
  mend(): Promise<unknown>;
  /**
   * Its network does this to a part of the packets with data that other agents send it. `change` overwrites some of their bytes, which
   * TCP does not notice, because the checksums of these links are never computed.
   */
  disturb(what: 'drop' | 'change', oneIn: number): Promise<void>;
  /** Ends what `disturb` began, and returns how many packets it concerned. */
  calm(): Promise<number>;
}

export interface LabController {
  /** Path of its socket. */
  readonly endpoint: string;
  readonly log: () => Promise<string>;
  /** Starts it again after `kill`. */
  readonly start: () => Promise<void>;
  readonly kill: () => Promise<void>;
}

export interface Lab {
  readonly nodes: readonly LabNode[];
  readonly controllers: readonly LabController[];
  /** Path of the socket of the first controller. */
  readonly endpoint: string;
  /** The directory that `loopcsi tls create` made. */
  readonly tlsDir: string;
}

interface LabOptions {
  readonly nodeCount: number;
  readonly controllerCount?: number;
  /** Flags of the drivers; a function gets the directory of the node. */
  readonly flags?: readonly string[] | ((directory: string) => readonly string[]);
}

/** A test in a lab, in a directory of its own. */
export const inLab =
  (options: LabOptions, work: (t: ExecutionContext, lab: Lab) => Promise<void>) =>
  (t: ExecutionContext) => {
    t.timeout(10 * 60_000);
    return onScratch(t, async ({ directory }) => {
      // The lab ends before the directory is removed.
      const teardowns: (() => unknown)[] = [];
      const scope = Object.assign(Object.create(t) as ExecutionContext, {
        teardown: (end: () => unknown) => teardowns.push(end),
      });
      try {
        await work(scope, await makeLab(scope, directory, options));
      } finally {
        for (const end of teardowns.reverse()) await end();
      }
    });
  };

/** Starts everything in `directory`. It ends with the test, the volumes excepted. */
export async function makeLab(
  t: ExecutionContext,
  directory: string,
  { nodeCount, controllerCount = 1, flags = [] }: LabOptions,
): Promise<Lab> {
  const tlsDir = join(directory, 'tls');
  await execa(launcher, ['tls', 'create', tlsDir]);
  const hub = await makeNamespace(t, join(directory, 'hub.log'));
  await inNamespace(hub, 'ip', 'link', 'add', 'br0', 'type', 'bridge');
  await inNamespace(hub, 'ip', 'address', 'add', `${addressOf(254)}/24`, 'dev', 'br0');
  await inNamespace(hub, 'ip', 'link', 'set', 'br0', 'up');
  const nodes: LabNode[] = [];
  for (let index = 1; index <= nodeCount; index += 1) {
    nodes.push(await makeNode(t, { index, hub, directory, tlsDir, flags }));
  }
  const controllers: LabController[] = [];
  for (let index = 1; index <= controllerCount; index += 1) {
    controllers.push(await makeController(t, { index, hub, directory, tlsDir, nodeCount }));
  }
  const endpoint = controllers[0]?.endpoint ?? '';
  return { nodes, controllers, endpoint, tlsDir };
}

async function makeController(
  t: ExecutionContext,
  given: {
    readonly index: number;
    readonly hub: Service;
    readonly directory: string;
    readonly tlsDir: string;
    readonly nodeCount: number;
  },
): Promise<LabController> {
  const { index, hub, directory } = given;
  const endpoint = join(directory, `controller-${index}.sock`);
  const logFile = join(directory, `controller-${index}.log`);
  const agents = Array.from({ length: given.nodeCount }, (_, i) => `${addressOf(i + 1)}:${port}`);
  const start = () =>
    startService(
      [
        ...enter(hub),
        launcher,
        'controller',
        `--endpoint=unix://${endpoint}`,
        `--agents=static:${agents.join(',')}`,
        `--tls-dir=${join(given.tlsDir, 'controller')}`,
        // One file for all controllers, as on one machine.
        `--node-records=file://${join(directory, 'nodes.json')}`,
        '--http-address=off',
      ],
      logFile,
    );
  let controller = await start();
  t.teardown(() => controller.end());
  return {
    endpoint,
    log: () => readFile(logFile, 'utf8'),
    start: async () => {
      controller = await start();
    },
    kill: () => controller.end('SIGKILL'),
  };
}

/** The part of a CreateVolume request that allows these nodes only, and prefers them in this order. */
export function onlyOn(...nodes: readonly Pick<LabNode, 'id'>[]) {
  const topologies = nodes.map(({ id }) => {
    const { key, value } = topologyOfNode('loopcsi.io', id);
    return { segments: { [key]: value } };
  });
  return { accessibility_requirements: { requisite: topologies, preferred: topologies } };
}

/** Waits until the controller reaches all agents. */
export async function untilAllReady(identity: Client<'csi.v1.Controller'>): Promise<void> {
  await until('all agents are ready', async () =>
    identity.ListVolumes({}, { timeoutMs: 10_000 }).then(
      () => true,
      () => false,
    ),
  );
}

/** A client of a service at a socket. Ends with the test. */
export function clientAt<N extends 'csi.v1.Controller' | 'csi.v1.Node'>(
  t: ExecutionContext,
  name: N,
  endpoint: string,
): Client<N> {
  const client = makeClient(name, `unix://${endpoint}`);
  t.teardown(client.close);
  return client;
}

/** A process whose network namespace others enter. */
async function makeNamespace(t: ExecutionContext, log: string): Promise<Service> {
  const holder = await startService(['unshare', '--net', 'sleep', 'infinity'], log);
  t.teardown(() => holder.end('SIGKILL'));
  const own = await namespaceOf('self');
  await until('it has its namespace', async () => (await namespaceOf(holder.pid)) !== own);
  await inNamespace(holder, 'ip', 'link', 'set', 'lo', 'up');
  return holder;
}

async function namespaceOf(pid: number | 'self'): Promise<string> {
  return (await execa('readlink', [`/proc/${pid}/ns/net`])).stdout;
}

function enter({ pid }: Service): readonly string[] {
  return ['nsenter', `--target=${pid}`, '--net'];
}

async function inNamespace(holder: Service, ...command: readonly string[]): Promise<string> {
  const [file = '', ...args] = [...enter(holder), ...command];
  return (await execa(file, args)).stdout;
}

async function makeNode(
  t: ExecutionContext,
  given: {
    readonly index: number;
    readonly hub: Service;
    readonly directory: string;
    readonly tlsDir: string;
    readonly flags: NonNullable<LabOptions['flags']>;
  },
): Promise<LabNode> {
  const { index, hub } = given;
  const id = `node-${index}`;
  const directory = join(given.directory, id);
  await mkdir(directory);
  const namespace = await makeNamespace(t, join(directory, 'namespace.log'));
  const link = `n${index}`;
  const peer = ['peer', 'name', 'eth0', 'netns', String(namespace.pid)];
  await inNamespace(hub, 'ip', 'link', 'add', link, 'type', 'veth', ...peer);
  await inNamespace(hub, 'ip', 'link', 'set', link, 'master', 'br0', 'up');
  await inNamespace(namespace, 'ip', 'address', 'add', `${addressOf(index)}/24`, 'dev', 'eth0');
  await inNamespace(namespace, 'ip', 'link', 'set', 'eth0', 'up');
  const flags = [
    `--node-id=${id}`,
    `--agent-address=${addressOf(index)}:${port}`,
    `--tls-dir=${join(given.tlsDir, 'agent')}`,
    '--http-address=off',
    ...(typeof given.flags === 'function' ? given.flags(directory) : given.flags),
  ];
  const start = () => startDriver(directory, flags, { enter: enter(namespace) });
  let driver = await start();
  // nsenter becomes the driver, so its process id is the driver's.
  const signal = (name: NodeJS.Signals): void => {
    process.kill(driver.pid, name);
  };
  t.teardown(async () => {
    signal('SIGCONT');
    await driver.stop();
    await dropEmbeddedPool(join(directory, 'pool'));
  });
  const setLink = (state: 'up' | 'down') => inNamespace(hub, 'ip', 'link', 'set', link, state);
  return {
    id,
    directory,
    driver: () => driver,
    address: `${addressOf(index)}:${port}`,
    enter: enter(namespace),
    start: async () => {
      driver = await start();
    },
    kill: () => driver.kill(),
    hang: () => signal('SIGSTOP'),
    resume: () => signal('SIGCONT'),
    cut: () => setLink('down'),
    mend: () => setLink('up'),
    disturb: async (what, oneIn) => {
      const action = what === 'drop' ? 'drop' : '@th,800,32 set 0xdeadbeef';
      const packets = `tcp sport ${port} meta length > 1000 numgen random mod ${oneIn} == 0`;
      const rules = [
        'add table ip faults',
        'add chain ip faults input { type filter hook input priority 0; }',
        `add rule ip faults input ${packets} counter ${action}`,
      ];
      await inNamespace(namespace, nft, rules.join('; '));
    },
    calm: async () => {
      const rules = await inNamespace(namespace, nft, 'list table ip faults');
      await inNamespace(namespace, nft, 'delete table ip faults');
      return Number(/counter packets (\d+)/.exec(rules)?.[1] ?? 0);
    },
  };
}

/** The mount of an embedded pool outlives the driver, with its device. */
async function dropEmbeddedPool(pool: string): Promise<void> {
  const { embeddedImage, embeddedMount } = poolFiles;
  await execa('umount', [join(pool, embeddedMount)], { reject: false });
  for (const { device, image } of await devicesBelow(pool)) {
    if (image === join(pool, embeddedImage)) await execa('losetup', ['--detach', device]);
  }
}
