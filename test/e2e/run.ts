/**
 * `npm run test:e2e [-- --tap] [STAGE...]`: starts a cluster from this machine's packages, runs the scenarios in it, stage
 * after stage, and removes everything. Arguments that start with `-` are passed to AVA. Logs of a failed run are kept, and their
 * path is printed last. After a failed stage the next one still runs, unless the failed one is the first, which installs.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { projectRoot, sharedDirectory } from './cluster/cache.ts';
import { Cluster } from './cluster/cluster.ts';
import { clusterImages, images, runImageCommand, suiteImages } from './cluster/images.ts';
import { layoutOf } from './cluster/layout.ts';
import { keepLogs } from './cluster/machine.ts';
import { clusterPrograms, suitePrograms } from './cluster/programs.ts';
import { makeDisks, mountDisks } from './kube/chart.ts';

/** Each is a folder of scenarios, whose files run concurrently. The other stages run a program, and only if they are named. */
const stages = ['install', 'workloads', 'disruption', 'uninstall'];
/** Scenarios that run only if they are named. */
const onRequest = ['controller'];
const byCommand = ['bench', 'conformance'];
const stageMinutes = 8;

const say = (line: string): void => void process.stderr.write(`e2e: ${line}\n`);
const startedAtMs = Date.now();
const lap = (what: string): void => {
  say(`${what} after ${Math.round((Date.now() - startedAtMs) / 1000)} s`);
};

const avaFlags = process.argv.slice(2).filter((word) => word.startsWith('-'));
const chosen = process.argv.slice(2).filter((word) => !word.startsWith('-'));

async function runStage(cluster: Cluster, stage: string): Promise<boolean> {
  // After a failed install, every test would wait until its timeout and fail.
  const early = stage === 'install' ? ['--fail-fast'] : [];
  const bounds = ['--timeout', `${stageMinutes}m`, '--concurrency', '2'];
  const flags = [...bounds, ...early, ...avaFlags];
  const files = `dist/test/e2e/scenarios/${stage}/*.test.js`;
  const scenarios = ['node_modules/.bin/ava', ...flags, files];
  const node = [process.execPath, '--enable-source-maps'];
  const programs: Readonly<Record<string, readonly string[]>> = {
    bench: [...node, 'dist/bench/kubernetes.js'],
    conformance: [...node, 'dist/test/e2e/conformance/run.js'],
  };
  const [file = '', ...args] = cluster.inside(...(programs[stage] ?? scenarios));
  const child = spawn(file, args, {
    cwd: projectRoot,
    stdio: 'inherit',
    env: {
      ...process.env,
      LOOPCSI_E2E_STATE: cluster.layout.state,
      LOOPCSI_E2E_KUBELET_DIR: cluster.layout.kubeletDir,
    },
  });
  const end = (): void => void child.kill();
  interrupted.signal.addEventListener('abort', end, { once: true });
  await once(child, 'exit');
  interrupted.signal.removeEventListener('abort', end);
  interrupted.signal.throwIfAborted();
  lap(`stage ${stage} ended`);
  return child.exitCode === 0;
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

const isSuite = chosen.includes('conformance');
if (isSuite) archives.push(...(await suiteImages(await suitePrograms())));
// Some tests of Kubernetes' suite work only with this directory.
const kubeletDir = isSuite ? '/var/lib/kubelet' : undefined;
const layout = layoutOf(await mkdtemp(join(tmpdir(), 'lce-')), kubeletDir);
const cluster = new Cluster(layout, programs);
let isGood = true;
let isInstalled = true;
try {
  await cluster.up(archives);
  interrupted.signal.throwIfAborted();
  const load = ['--tag', images.driver, '--load', 'containerd'];
  await runImageCommand(load, { CONTAINERD_ADDRESS: layout.criSocket });
  interrupted.signal.throwIfAborted();
  await makeDisks(layout);
  await mountDisks(layout);
  lap('the cluster is up');
  const named = [...stages, ...onRequest, ...byCommand].filter(
    (stage) => stage === 'install' || chosen.includes(stage),
  );
  for (const stage of chosen.length === 0 ? stages : named) {
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
