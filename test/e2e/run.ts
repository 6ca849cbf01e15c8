/**
 * `npm run test:e2e [-- --nodes N [--shape controller]] [--tap] [STAGE...]`: starts a cluster from this machine's packages, runs the
 * scenarios in it, stage after stage, and removes everything. With one node, the first stage installs the chart as the README says, and
 * the others only run if it passes; with several, the chart is installed before the first stage, in the shape `daemonset` or
 * `controller`. Other arguments that start with `-` are passed to AVA. Logs of a failed run are kept, and their path is printed last.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { scaledMs } from '../helpers/slowness.ts';
import { projectRoot, sharedDirectory } from './cluster/cache.ts';
import { Cluster } from './cluster/cluster.ts';
import {
  backupImage,
  clusterImages,
  images,
  runImageCommand,
  standInImage,
  suiteImages,
} from './cluster/images.ts';
import { layoutOf } from './cluster/layout.ts';
import { keepLogs } from './cluster/machine.ts';
import {
  backupPrograms,
  certManagerPrograms,
  clusterPrograms,
  suitePrograms,
} from './cluster/programs.ts';
import { makeDisks, mountDisks } from './kube/chart.ts';

const node = [process.execPath, '--enable-source-maps'];
/** These stages run only if they are named. Any other stage is a folder of scenarios, whose files run concurrently. */
const commands: Readonly<Record<string, readonly string[]>> = {
  bench: [...node, 'dist/bench/kubernetes.js'],
  'bench-installs': [...node, 'dist/bench/installs.js'],
  conformance: [...node, 'dist/test/e2e/conformance/run.js'],
};
const stageMinutes = 8;
const severalNodes = [
  'nodes',
  'backup',
  'node-failures',
  'node-upgrade',
  'node-loss',
  'node-groups',
];
/** Stages whose files must not run concurrently, because their scenarios disturb each other or change the shape of the release. */
const serialStages = ['backup', 'controller', 'controller-changes', 'node-failures', 'node-loss'];

const say = (line: string): void => void process.stderr.write(`e2e: ${line}\n`);
const startedAtMs = Date.now();
const lap = (what: string): void => {
  say(`${what} after ${Math.round((Date.now() - startedAtMs) / 1000)} s`);
};

const words = process.argv.slice(2);
const nodesFlag = words.indexOf('--nodes');
const nodeCount = nodesFlag < 0 ? 1 : Number(words.splice(nodesFlag, 2)[1]);
const shapeFlag = words.indexOf('--shape');
const shape = shapeFlag < 0 ? [] : words.splice(shapeFlag, 2);
if (shape.length > 0 && !['daemonset', 'controller'].includes(shape[1] ?? '')) {
  throw new Error(`--shape ${shape[1] ?? ''}: use daemonset or controller`);
}
const avaFlags = words.filter((word) => word.startsWith('-'));
const chosen = words.filter((word) => !word.startsWith('-'));

/** Measurements do not depend on the time limits of the install stage. */
const isBench = chosen.length === 1 && ['bench', 'bench-installs'].includes(chosen[0] ?? '');

function stagesToRun(): readonly string[] {
  if (nodeCount > 1) return chosen.length > 0 ? chosen : severalNodes;
  if (isBench) return chosen;
  const stages = ['install', 'workloads', 'disruption', 'uninstall'];
  if (chosen.length === 0) return stages;
  const onRequest = ['controller', 'controller-changes', 'cert-manager', ...Object.keys(commands)];
  return [...stages, ...onRequest].filter((stage) => stage === 'install' || chosen.includes(stage));
}

async function runStage(cluster: Cluster, stage: string): Promise<boolean> {
  // After a failed install, every test would wait until its timeout and fail.
  const early = stage === 'install' ? ['--fail-fast'] : [];
  const concurrency = serialStages.includes(stage) ? '1' : '2';
  const bounds = ['--timeout', `${scaledMs(stageMinutes)}m`, '--concurrency', concurrency];
  const flags = [...bounds, ...early, ...avaFlags];
  const files = `dist/test/e2e/scenarios/${stage}/*.test.js`;
  const scenarios = ['node_modules/.bin/ava', ...flags, files];
  const more = stage === 'bench' ? shape : [];
  const isGood = await runInside(cluster, [...(commands[stage] ?? scenarios), ...more]);
  lap(`stage ${stage} ended`);
  return isGood;
}

/** Runs a program in the cluster's network, where the modules of kube/ work. */
async function runInside(cluster: Cluster, command: readonly string[]): Promise<boolean> {
  const [file = '', ...args] = cluster.inside(...command);
  const child = spawn(file, args, {
    cwd: projectRoot,
    stdio: 'inherit',
    env: { ...process.env, LOOPCSI_E2E_STATE: cluster.layout.state },
  });
  const end = (): void => void child.kill();
  interrupted.signal.addEventListener('abort', end, { once: true });
  await once(child, 'exit');
  interrupted.signal.removeEventListener('abort', end);
  interrupted.signal.throwIfAborted();
  return child.exitCode === 0;
}

/** Builds the driver's image and loads it into the first node, as an operator does; the other nodes get the archive. */
async function loadDriver({ nodes: [first, ...others] }: Cluster): Promise<void> {
  const load = ['--tag', images.driver, '--load', 'containerd'];
  const archive = join(layout.state, 'driver.tar');
  if (others.length > 0) load.push('--output', archive);
  await runImageCommand(load, { CONTAINERD_ADDRESS: first?.layout.criSocket ?? '' });
  await Promise.all(others.map(async (each) => each.load([archive])));
}

/** After a signal, the cluster is still removed. */
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    interrupted.abort(new Error(`ended by ${signal}`));
  });
}

const programs = await clusterPrograms();
const archives = [...(await clusterImages(programs))];
lap('programs and images are ready');

// Built before the cluster is up: it takes minutes, and the stage has a time limit.
if (chosen.includes('cert-manager')) await certManagerPrograms();
if (chosen.includes('conformance')) {
  archives.push(...(await suiteImages(await suitePrograms())));
}
if (stagesToRun().includes('backup')) archives.push(await backupImage(await backupPrograms()));
if (['backup', 'controller'].some((stage) => stagesToRun().includes(stage))) {
  archives.push(await standInImage());
}
const layout = layoutOf(await mkdtemp(join(tmpdir(), 'lce-')), nodeCount);
const cluster = Cluster.of(layout, programs);
let isGood = true;
let isInstalled = true;
try {
  await cluster.up(archives);
  interrupted.signal.throwIfAborted();
  await loadDriver(cluster);
  interrupted.signal.throwIfAborted();
  for (const each of cluster.nodes) {
    await makeDisks(each, cluster);
    await mountDisks(each);
  }
  lap('the cluster is up');
  if (nodeCount > 1 || isBench) {
    isInstalled = await runInside(cluster, [...node, 'dist/test/e2e/kube/install.js', ...shape]);
    isGood &&= isInstalled;
    lap('the chart is installed');
  }
  for (const stage of stagesToRun()) {
    if (!isInstalled) break;
    const passed = await runStage(cluster, stage);
    isGood &&= passed;
    if (stage === 'install') isInstalled = passed;
  }
} catch (error) {
  isGood = false;
  console.error(error);
} finally {
  if (!isGood) {
    const kept = join(await sharedDirectory('e2e-logs'), new Date(startedAtMs).toISOString());
    await keepLogs(layout, kept);
    say(`logs are kept in ${kept}`);
  }
  if (process.env['LOOPCSI_E2E_KEEP'] === undefined) {
    await cluster.down();
    await rm(layout.state, { recursive: true });
    lap('the cluster was removed');
  } else {
    say(`the cluster keeps running: npm run cluster -- in ${layout.state} bash`);
  }
}
process.exitCode = isGood ? 0 : 1;
