/**
 * Kubernetes' own storage suite against the installed driver: `npm run test:e2e:conformance`. Runs in the cluster's network
 * namespace, started by test/e2e/run.ts. Words in LOOPCSI_SUITE_FOCUS narrow it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suitePrograms } from '../cluster/programs.ts';
import { layout, programs } from '../kube/scenario.ts';
import { left, testDriver } from './test-driver.ts';

const suite = await suitePrograms();
const driverFile = join(layout.state, 'test-driver.json');
await writeFile(driverFile, JSON.stringify(testDriver));
const flags = {
  kubeconfig: layout.kubeconfig,
  'kubectl-path': join(programs, 'kubectl'),
  provider: 'skeleton',
  'num-nodes': '1',
  'allowed-not-ready-nodes': '0',
  'storage.testdriver': driverFile,
  'kubelet-root-dir': layout.kubeletDir,
  'report-dir': join(layout.logs, 'suite'),
  'disable-log-dump': 'true',
  'ginkgo.no-color': 'true',
  'ginkgo.timeout': '90m',
  'ginkgo.focus': `External.Storage.*${process.env['LOOPCSI_SUITE_FOCUS'] ?? ''}`,
  'ginkgo.skip': left.map(({ pattern }) => pattern).join('|'),
};
const args = Object.entries(flags).map(([name, value]) => `-${name}=${value}`);
const child = spawn(join(suite, 'e2e.test'), args, { stdio: 'inherit' });
await once(child, 'exit');
process.exitCode = child.exitCode ?? 1;
