/** Prometheus' promtool, built from the Go module proxy: `test/go/prometheus/go.mod` names the release. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attempt, type CommandResult, run } from '../../scripts/command.ts';
import { cached, hashInputs, projectRoot } from '../e2e/cluster/cache.ts';

const module = join(projectRoot, 'test/go/prometheus');
const environment = { CGO_ENABLED: '0', GOFLAGS: '-mod=readonly -buildvcs=false', GOWORK: 'off' };
/** Without service discovery, promtool needs neither the clients of clouds nor that of Kubernetes. */
const tags = 'remove_all_sd';

export const alertsFile = join(projectRoot, 'charts/loopcsi/files/alerts.yaml');

/** The path of promtool. A build takes two minutes on two cores with an empty Go cache. */
export async function promtoolProgram(): Promise<string> {
  const go = { cwd: module, env: environment, timeoutMs: 20 * 60_000 };
  const version = await run('go', ['env', 'GOVERSION', 'GOARCH'], go);
  const key = await hashInputs([version, tags], ['test/go/prometheus']);
  const directory = await cached('promtool', key, async (draft) => {
    const flags = ['-trimpath', '-tags', tags, '-ldflags', '-s -w', '-o', `${draft}/`];
    const program = 'github.com/prometheus/prometheus/cmd/promtool';
    await run('nice', ['go', 'build', ...flags, program], go);
  });
  return join(directory, 'promtool');
}

export async function promtool(
  args: readonly string[],
  options: { readonly input?: string } = {},
): Promise<CommandResult> {
  return attempt(await promtoolProgram(), args, options);
}

/** A unit test of rules, in the format of `promtool test rules`. */
export interface RuleTest {
  readonly name: string;
  readonly interval: string;
  readonly input_series: readonly { readonly series: string; readonly values: string }[];
  readonly promql_expr_test: readonly {
    readonly expr: string;
    readonly eval_time: string;
    readonly exp_samples: readonly { readonly labels: string; readonly value: number }[];
  }[];
}

/** Runs the tests with the alerts of the chart. Throws promtool's output if one fails. */
export async function testRules(tests: readonly RuleTest[]): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-promtool-'));
  try {
    const file = join(directory, 'tests.json');
    // JSON is YAML.
    const content = { rule_files: [alertsFile], evaluation_interval: '1m', tests };
    await writeFile(file, JSON.stringify(content));
    const { exitCode, stdout, stderr } = await promtool(['test', 'rules', file]);
    if (exitCode !== 0) throw new Error(stdout + stderr);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
