/** Kubernetes' `e2e.test` for this driver: lists its tests and runs some of them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../scripts/command.ts';
import { nodePaths } from '../cluster/layout.ts';
import { layout, programs } from '../kube/scenario.ts';
import { type Outcome, outcomesOf } from './junit.ts';

const reports = join(layout.logs, 'suite');

export class Suite {
  readonly #program: string;
  readonly #driverFile: string;

  private constructor(program: string, driverFile: string) {
    this.#program = program;
    this.#driverFile = driverFile;
  }

  /** `directory` is `suitePrograms()`, `driver` the content of the suite's test-driver file, which gets that name. */
  static async of(directory: string, driver: object, name: string): Promise<Suite> {
    const driverFile = join(layout.state, `${name}.json`);
    await mkdir(reports, { recursive: true });
    await writeFile(driverFile, JSON.stringify(driver));
    return new Suite(join(directory, 'e2e.test'), driverFile);
  }

  /** Full names of the suite's tests for this driver. */
  async names(): Promise<readonly string[]> {
    const listed = await run(this.#program, [
      '-list-tests',
      `-storage.testdriver=${this.#driverFile}`,
    ]);
    return listed
      .split('\n')
      .flatMap((line) => / {4}\S+:\d+: (External[. ]Storage .*)$/.exec(line)?.[1] ?? []);
  }

  /** Runs these tests one after the other; `label` names the files of this run. The output goes to a log beside the report. */
  async run(names: readonly string[], label: string): Promise<readonly Outcome[]> {
    const flags = {
      kubeconfig: layout.kubeconfig,
      'kubectl-path': join(programs, 'kubectl'),
      provider: 'skeleton',
      'num-nodes': String(layout.nodes.length),
      'allowed-not-ready-nodes': '0',
      'storage.testdriver': this.#driverFile,
      'kubelet-root-dir': nodePaths.kubelet,
      'report-dir': reports,
      'report-prefix': label,
      'disable-log-dump': 'true',
      'ginkgo.no-color': 'true',
      'ginkgo.timeout': '3h',
      // Ginkgo matches the name of the suite followed by the name of the test.
      'ginkgo.focus': `(?:${names.map(escaped).join('|')})$`,
    };
    const log = await open(join(reports, `${label}.log`), 'w');
    try {
      const args = Object.entries(flags).map(([name, value]) => `-${name}=${value}`);
      const child = spawn(this.#program, args, { stdio: ['ignore', log.fd, log.fd] });
      // The cluster is about to be removed; the suite would wait for pods that are never deleted.
      const end = (): void => void child.kill('SIGKILL');
      process.on('SIGTERM', end);
      await once(child, 'exit');
      process.off('SIGTERM', end);
    } finally {
      await log.close();
    }
    const report = await readFile(join(reports, `junit_${label}01.xml`), 'utf8');
    return outcomesOf(report).filter(({ name }) => names.includes(name));
  }
}

function escaped(name: string): string {
  return name.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
