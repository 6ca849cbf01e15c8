/**
 * A cluster for experiments: `npm run cluster -- up DIRECTORY [--nodes N] [--no-driver]`, `in DIRECTORY COMMAND...`,
 * `reboot|off|on|cut|connect DIRECTORY [NODE]`, `down DIRECTORY`. `in` runs a command in the control plane's network with
 * KUBECONFIG set and the cluster's programs in PATH. NODE is the node's number, 1 by default.
 */
import { spawnSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Cluster } from './cluster.ts';
import { clusterImages, driverImage } from './images.ts';
import { layoutOf } from './layout.ts';
import type { ClusterNode } from './node.ts';
import { clusterPrograms } from './programs.ts';

const usage =
  'usage: npm run cluster -- up DIRECTORY [--nodes N] [--no-driver]\n' +
  '       npm run cluster -- in DIRECTORY COMMAND...\n' +
  '       npm run cluster -- reboot|off|on|cut|connect DIRECTORY [NODE]\n' +
  '       npm run cluster -- down DIRECTORY\n';

const onNode: Readonly<Record<string, (node: ClusterNode) => Promise<void>>> = {
  reboot: async (node) => {
    await node.powerOff();
    await node.powerOn();
  },
  off: async (node) => node.powerOff(),
  on: async (node) => node.powerOn(),
  cut: async (node) => node.disconnect(),
  connect: async (node) => node.reconnect(),
};

async function up(directory: string, args: readonly string[]): Promise<void> {
  const options = { nodes: { type: 'string' }, 'no-driver': { type: 'boolean' } } as const;
  const { values } = parseArgs({ args: [...args], options });
  const cluster = Cluster.of(layoutOf(resolve(directory), Number(values.nodes ?? 1)), programs);
  const driver = values['no-driver'] === true ? [] : [`${await driverImage()}/driver.tar`];
  await cluster.up([...(await clusterImages(programs)), ...driver]);
  process.stdout.write(`up: npm run cluster -- in ${directory} kubectl get nodes\n`);
}

function runInside(cluster: Cluster, command: readonly string[]): number {
  const path = `${programs}:${process.env['PATH'] ?? ''}`;
  const env = { ...process.env, PATH: path, KUBECONFIG: cluster.layout.kubeconfig };
  const [file = '', ...args] = cluster.inside(...command);
  return spawnSync(file, args, { stdio: 'inherit', env }).status ?? 1;
}

async function runCommand(
  command: string,
  directory: string,
  args: readonly string[],
): Promise<number> {
  if (command === 'up') {
    await up(directory, args);
    return 0;
  }
  const cluster = await Cluster.find(resolve(directory), programs);
  if (command === 'in') return runInside(cluster, args);
  if (command === 'down') {
    await cluster.down();
    await rm(cluster.layout.state, { recursive: true });
    return 0;
  }
  const node = cluster.nodes[Number(args[0] ?? 1) - 1];
  const act = onNode[command];
  if (act === undefined || node === undefined) {
    process.stderr.write(usage);
    return 2;
  }
  await act(node);
  if (command === 'reboot' || command === 'on') await cluster.untilReady([node]);
  return 0;
}

const [command, directory, ...rest] = process.argv.slice(2);
if (command === undefined || directory === undefined) {
  process.stderr.write(usage);
  process.exit(2);
}
const programs = await clusterPrograms();
process.exitCode = await runCommand(command, directory, rest);
