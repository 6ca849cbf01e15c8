/**
 * A cluster for experiments: `npm run cluster -- up DIRECTORY`, `in DIRECTORY COMMAND...`, `reboot DIRECTORY`,
 * `down DIRECTORY`. `in` runs a command in the cluster's network with KUBECONFIG set and the cluster's programs in PATH.
 */
import { spawnSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Cluster } from './cluster.ts';
import { clusterImages, driverImage } from './images.ts';
import { layoutOf } from './layout.ts';
import { clusterPrograms } from './programs.ts';

const [command, directory, ...rest] = process.argv.slice(2);
if (command === undefined || directory === undefined) {
  process.stderr.write('usage: npm run cluster -- up|in|reboot|down DIRECTORY [COMMAND...]\n');
  process.exit(2);
}
const programs = await clusterPrograms();
const layout = layoutOf(resolve(directory), process.env['LOOPCSI_E2E_KUBELET_DIR']);
const cluster = new Cluster(layout, programs);

switch (command) {
  case 'up':
    await cluster.up([
      ...(await clusterImages(programs)),
      ...(rest.includes('--no-driver') ? [] : [`${await driverImage()}/driver.tar`]),
    ]);
    process.stdout.write(`up: npm run cluster -- in ${directory} kubectl get nodes\n`);
    break;
  case 'in': {
    const path = `${programs}:${process.env['PATH'] ?? ''}`;
    const env = { ...process.env, PATH: path, KUBECONFIG: layout.kubeconfig };
    const [file = '', ...args] = cluster.inside(...rest);
    process.exitCode = spawnSync(file, args, { stdio: 'inherit', env }).status ?? 1;
    break;
  }
  case 'reboot':
    await cluster.reboot();
    break;
  case 'down':
    await cluster.down();
    await rm(layout.state, { recursive: true });
    break;
  default:
    process.stderr.write(`unknown command ${command}\n`);
    process.exitCode = 2;
}
