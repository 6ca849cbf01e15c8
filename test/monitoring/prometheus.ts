import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import * as v from 'valibot';
import { until } from '../helpers/until.ts';
import { prometheusPrograms } from './programs.ts';
import { alertsFile } from './promtool.ts';

export const scrapeSeconds = 1;

const answer = v.looseObject({
  status: v.string(),
  data: v.optional(v.unknown()),
  error: v.optional(v.string()),
});
const sample = v.tuple([v.number(), v.string()]);
const matrix = v.object({ result: v.array(v.object({ values: v.array(sample) })) });
const vector = v.object({ result: v.array(v.object({ value: sample })) });
const rule = v.object({
  name: v.string(),
  state: v.string(),
  health: v.string(),
  lastError: v.optional(v.string(), ''),
  alerts: v.array(
    v.object({
      labels: v.record(v.string(), v.string()),
      annotations: v.record(v.string(), v.string()),
    }),
  ),
});
const groups = v.object({ groups: v.array(v.object({ rules: v.array(rule) })) });

export type Rule = v.InferOutput<typeof rule>;

/** A Prometheus that scrapes one driver and one controller, with the labels that the chart's PodMonitors give them, and evaluates the chart's alerts. */
export class Prometheus {
  readonly #url: string;

  private constructor(url: string) {
    this.#url = url;
  }

  /** The test's teardown ends it. The targets are addresses of /metrics. */
  static async start(
    t: ExecutionContext,
    targets: { readonly driver: string; readonly controller: string },
  ): Promise<Prometheus> {
    const program = join(await prometheusPrograms(), 'prometheus');
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-prometheus-'));
    const config = {
      global: { scrape_interval: `${scrapeSeconds}s`, evaluation_interval: `${scrapeSeconds}s` },
      rule_files: [alertsFile],
      scrape_configs: [
        {
          job_name: 'loopcsi',
          honor_labels: true,
          static_configs: [
            { targets: [new URL(targets.driver).host], labels: { node: 'worker-1' } },
          ],
        },
        {
          job_name: 'loopcsi-controller',
          honor_labels: true,
          static_configs: [{ targets: [new URL(targets.controller).host] }],
        },
      ],
    };
    const file = join(directory, 'prometheus.json');
    // JSON is YAML.
    await writeFile(file, JSON.stringify(config));
    const logFile = join(directory, 'log');
    const log = await open(logFile, 'w');
    const flags = [
      `--config.file=${file}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      '--web.listen-address=127.0.0.1:0',
    ];
    const child = spawn(program, flags, { stdio: ['ignore', log.fd, log.fd] });
    const ended = once(child, 'exit');
    await log.close();
    t.teardown(async () => {
      child.kill('SIGKILL');
      await ended;
      await rm(directory, { recursive: true, force: true });
    });
    return new Prometheus(`http://${await addressIn(logFile, () => child.exitCode)}`);
  }

  /** The series of a query over the last minutes, each with its values. Throws Prometheus' error. */
  async range(query: string, stepSeconds: number, minutes = 5): Promise<readonly number[][]> {
    const end = Date.now() / 1000;
    const parameters = {
      query,
      start: String(end - minutes * 60),
      end: String(end),
      step: String(stepSeconds),
    };
    const { result } = v.parse(matrix, await this.#get('query_range', parameters));
    return result.map(({ values }) => values.map(([, value]) => Number(value)));
  }

  /** The present values of the series of a query. */
  async instant(query: string): Promise<readonly number[]> {
    const { result } = v.parse(vector, await this.#get('query', { query }));
    return result.map(({ value: [, value] }) => Number(value));
  }

  /** What Grafana asks for `label_values(METRIC, LABEL)`. */
  async labelValues(metric: string, label: string): Promise<readonly string[]> {
    const data = await this.#get(`label/${label}/values`, { 'match[]': metric });
    return v.parse(v.array(v.string()), data);
  }

  async rules(): Promise<readonly Rule[]> {
    const { groups: all } = v.parse(groups, await this.#get('rules'));
    return all.flatMap(({ rules }) => rules);
  }

  async #get(path: string, parameters: Readonly<Record<string, string>> = {}): Promise<unknown> {
    const url = `${this.#url}/api/v1/${path}?${new URLSearchParams(parameters).toString()}`;
    const response = await fetch(url);
    const { status, data, error = '' } = v.parse(answer, await response.json());
    if (status !== 'success') throw new Error(`${path} ${JSON.stringify(parameters)}: ${error}`);
    return data;
  }
}

/** Waits until Prometheus is ready, and returns the address that it chose. */
async function addressIn(logFile: string, exitCode: () => number | null): Promise<string> {
  let address = '';
  let text = '';
  await until('Prometheus is ready', async () => {
    text = await readFile(logFile, 'utf8');
    if (exitCode() !== null) throw new Error(`Prometheus has ended:\n${text}`);
    address = /msg="Listening on" .*address=(127\.0\.0\.1:\d+)/.exec(text)?.[1] ?? '';
    return address !== '' && text.includes('Server is ready to receive web requests');
  });
  return address;
}
