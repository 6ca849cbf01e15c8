/**
 * Installs the tests' release in the cluster, and waits until every node serves it: run by test/e2e/run.ts. With `--shape controller`,
 * in the shape with a controller.
 */

import { scaledMs } from '../../helpers/slowness.ts';
import { chartPath, release, systemNamespace } from './chart.ts';
import { api, helm } from './scenario.ts';
import { valuesOf } from './shape.ts';

const labels = { 'pod-security.kubernetes.io/enforce': 'privileged' };
await api.create('Namespace', '', { metadata: { name: systemNamespace, labels } });
const flags = [
  '--namespace',
  systemNamespace,
  '--wait',
  '--timeout',
  `${scaledMs(4)}m`,
  '--values',
  '-',
];
const values = valuesOf(process.argv.slice(2).join(' ') === '--shape controller');
const { exitCode, stdout, stderr } = await helm(['install', release, chartPath, ...flags], values);
if (exitCode !== 0) throw new Error(stdout + stderr);
