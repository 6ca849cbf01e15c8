import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attempt, type CommandResult } from '../../scripts/command.ts';
import { projectRoot } from '../e2e/cluster/cache.ts';
import { prometheusPrograms } from './programs.ts';

export const alertsFile = join(projectRoot, 'charts/loopcsi/files/alerts.yaml');
export const alertsText = await readFile(alertsFile, 'utf8');
/** The names of all alerts, in their order in the file. */
export const alertNames = [...alertsText.matchAll(/^ +- alert: (\w+)$/gm)].map(
  ([, name = '']) => name,
);

export async function promtool(
  args: readonly string[],
  options: { readonly input?: string } = {},
): Promise<CommandResult> {
  return attempt(join(await prometheusPrograms(), 'promtool'), args, options);
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
