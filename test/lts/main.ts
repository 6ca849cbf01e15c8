/**
 * `npm run test:lts` runs tests with the Node version of the driver's image, which differs from the version of all other tests: those
 * that depend on Node (thread pool, kernel calls, sockets, signals, certificates, streams), as unit tests and on real devices. The rules of
 * volumes/ use only the language: here they run on real devices, and their unit tests run with the other version.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { nodeRelease } from '../../scripts/node-release.ts';
import { cached, hashInputs, projectRoot } from '../e2e/cluster/cache.ts';
import { installNode, nodeProgram } from '../images/node.ts';

/** Folders and files of `test/unit` that do not depend on Node, or run no code of the driver but read files or test other tests. */
const notHere = [
  'arrows.test.js',
  'chart-schema.test.js',
  'dockerfile.test.js',
  'docs/**',
  'e2e/**',
  'monitoring/**',
  'mutants/**',
  'overview.test.js',
  'scripts/**',
  'tidy*.test.js',
  'vm/**',
  'volumes/**',
  'workflows.test.js',
];
const onDevices = ['serve', 'life-cycle', 'snapshots', 'host/freeze/freezer', 'host/loop/devices'];

const ava = join(projectRoot, 'node_modules', 'ava', 'entrypoints', 'cli.mjs');
const runFiles = join(projectRoot, 'dist', 'scripts', 'run-files.js');
const suites = [
  [ava, 'dist/test/unit/**/*.test.js', ...notHere.map((path) => `!dist/test/unit/${path}`)],
  [runFiles, '--timeout=5m', ...onDevices.map((name) => `dist/test/integration/${name}.test.js`)],
];

const entry = await cached('node', await hashInputs([nodeRelease], []), async (directory) => {
  await installNode(directory);
});
const node = join(entry, nodeProgram);
const path = `${dirname(node)}:${process.env['PATH'] ?? ''}`;

process.exitCode = 0;
for (const suite of suites) {
  // Tests start drivers with bin/loopcsi.
  const child = spawn(node, [...suite, ...process.argv.slice(2)], {
    cwd: projectRoot,
    stdio: 'inherit',
    env: { ...process.env, PATH: path, LOOPCSI_NODE: node },
  });
  await once(child, 'exit');
  if (child.exitCode !== 0) process.exitCode = 1;
}
