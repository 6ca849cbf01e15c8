import test from 'ava';
import { eventually, run } from '../../scripts/command.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import { busybox, type Lab, makeNode, type NodeSpace, openLab } from './lab.ts';
import { driverName, startPlugin } from './plugin.ts';

/** Two machines: network namespaces joined by a veth pair, each with its own mount namespace, driver and dockerd. */
interface Machine {
  readonly node: NodeSpace;
  readonly daemon: Daemon;
  readonly address: string;
  /** Its node ID in Swarm. */
  id: string;
}

let lab: Lab;
let left: Machine;
let right: Machine;

async function machine(name: string, address: string): Promise<Machine> {
  const node = await makeNode(lab, name);
  await startPlugin(lab, node, { nodeId: `node-${name}` });
  const daemon = await startDaemon(lab, node);
  // Swarm places tasks with a volume only on nodes whose dockerd knows the driver, which it does after the first use.
  await daemon.docker('volume', 'ls');
  return { node, daemon, address, id: '' };
}

async function connect(): Promise<void> {
  const [a, b] = [left.node.netns, right.node.netns];
  await run('ip', [
    'link',
    'add',
    'cable0',
    'netns',
    a,
    'type',
    'veth',
    'peer',
    'name',
    'cable0',
    'netns',
    b,
  ]);
  for (const { node, address } of [left, right]) {
    await run('ip', ['-netns', node.netns, 'address', 'add', `${address}/24`, 'dev', 'cable0']);
    await run('ip', ['-netns', node.netns, 'link', 'set', 'cable0', 'up']);
  }
}

test.before(async () => {
  lab = await openLab();
  left = await machine('left', '10.98.0.1');
  right = await machine('right', '10.98.0.2');
  await connect();
  await left.daemon.docker('swarm', 'init', '--advertise-addr', left.address);
  const token = await left.daemon.docker('swarm', 'join-token', '--quiet', 'worker');
  await right.daemon.docker(
    'swarm',
    'join',
    '--token',
    token,
    '--advertise-addr',
    right.address,
    `${left.address}:2377`,
  );
  for (const one of [left, right]) {
    one.id = await one.daemon.docker('info', '--format', '{{.Swarm.NodeID}}');
  }
});
test.after.always('nothing is left behind', async () => {
  const leftovers = await lab.close();
  if (leftovers.length > 0) throw new Error(`left behind: ${leftovers.join('; ')}`);
});

/** Waits until the only task of a service runs, and returns its container. */
async function containerOf({ daemon }: Machine, service: string): Promise<string> {
  return eventually(`a container of service ${service}`, async () => {
    const filter = `label=com.docker.swarm.service.name=${service}`;
    const id = await daemon.docker('ps', '--quiet', '--filter', filter);
    return id === '' ? undefined : id;
  });
}

/** A service on one machine that serves its name, and stores the answer of the other service in a volume of that machine. */
async function startService(on: Machine, name: string, other: string): Promise<void> {
  const script = [
    'mkdir -p /www',
    `echo from-${name} >/www/word`,
    'httpd -h /www',
    `until timeout 2 wget -q -O /data/got http://${other}/word; do sleep 0.2; done`,
    'sync /data/got',
    'exec sleep 1000',
  ].join('\n');
  await left.daemon.docker(
    ...['service', 'create', '--detach', '--quiet', '--no-resolve-image', '--name', name],
    // Without a virtual address, which needs ip_vs, a feature that a kernel may lack.
    ...[
      '--network',
      'mesh',
      '--endpoint-mode',
      'dnsrr',
      '--constraint',
      `node.id==${on.id}`,
      '--stop-grace-period',
      '1s',
    ],
    ...[
      '--mount',
      `type=volume,src=of-${name},dst=/data,volume-driver=${driverName},volume-opt=size=64Mi`,
    ],
    ...[busybox, 'sh', '-c', script],
  );
}

test.serial(
  'services on two machines reach each other by name over VXLAN, each with a volume of its machine',
  async (t) => {
    await left.daemon.docker('network', 'create', '--driver', 'overlay', '--attachable', 'mesh');
    await startService(left, 'west', 'east');
    await startService(right, 'east', 'west');
    for (const { on, name, hears } of [
      { on: left, name: 'west', hears: 'from-east' },
      { on: right, name: 'east', hears: 'from-west' },
    ]) {
      const container = await containerOf(on, name);
      const heard = await eventually(`${name} to get the answer of the other`, async () => {
        const text = await on.daemon.docker('exec', container, 'cat', '/data/got');
        return text === '' ? undefined : text;
      });
      t.is(heard, hears);
      const node = await on.daemon.docker(
        'volume',
        'inspect',
        '--format',
        '{{.Status.node}}',
        `of-${name}`,
      );
      t.is(node, on === left ? 'node-left' : 'node-right');
    }
    // A container that does not belong to a service joins the same network.
    const fetch = 'until timeout 2 wget -q -O - http://east/word; do sleep 0.2; done';
    t.is(
      await left.daemon.docker('run', '--rm', '--network', 'mesh', busybox, 'sh', '-c', fetch),
      'from-east',
    );
    const vxlan = await run('nsenter', [
      `--net=/run/netns/${right.node.netns}`,
      'ss',
      '--udp',
      '--listening',
      '--numeric',
    ]);
    t.regex(vxlan, /:4789\b/);
  },
);

test.serial('a service keeps its data when its task is replaced', async (t) => {
  const before = await containerOf(left, 'west');
  await left.daemon.docker('exec', before, 'sh', '-c', 'echo kept >/data/mark; sync /data/mark');
  await left.daemon.docker('service', 'update', '--detach', '--quiet', '--force', 'west');
  const after = await eventually('a new task', async () => {
    const id = await containerOf(left, 'west');
    return id === before ? undefined : id;
  });
  t.is(await left.daemon.docker('exec', after, 'cat', '/data/mark'), 'kept');
});

test.serial('all services, volumes and networks can be removed', async (t) => {
  await left.daemon.docker('service', 'rm', 'west', 'east');
  for (const { daemon } of [left, right]) {
    await eventually('the end of the tasks', async () =>
      (await daemon.docker('ps', '--all', '--quiet')) === '' ? true : undefined,
    );
  }
  await left.daemon.docker('volume', 'rm', 'of-west');
  await right.daemon.docker('volume', 'rm', 'of-east');
  await right.daemon.docker('swarm', 'leave', '--force');
  await left.daemon.docker('swarm', 'leave', '--force');
  t.is(await left.daemon.docker('volume', 'ls', '--quiet', '--filter', `driver=${driverName}`), '');
});
