/**
 * Measures `loopcsi controller` with many nodes. The agents of all nodes are in one process (fake-agents.ts), with the driver's own TLS
 * listener and services; the controller is the built program. They share the processors of this machine, so the times are upper bounds.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { mapConcurrently } from '../src/async.ts';
import { type Client, makeClient } from '../src/csi/client.ts';
import type { TopologyRequirement } from '../src/csi/types.ts';
import { topologyOfNode } from '../src/rpc/topology.ts';
import { MiB } from '../src/units.ts';
import { launcher, runCommand } from '../test/helpers/command-line.ts';
import { codeOf } from '../test/helpers/csi-server.ts';
import { portOf } from '../test/helpers/driver.ts';
import { scrape } from '../test/helpers/scrape.ts';
import { until } from '../test/helpers/until.ts';
import { type FakeAgentsOptions, hostOf, nodeIdOf } from './fake-agents.ts';
import {
  asMarkdown,
  elapsedMs,
  largestResidentMiB,
  percentile,
  processorMs,
  residentMiB,
} from './measure.ts';

const nodeCounts = [10, 100, 1_000] as const;
const volumesPerNode = 20;
const pageSize = 100;
const classes = 5;
/** As many calls for capacities at a time as the chart's provisioner makes (controller.provisioner.capacityThreads). */
const capacityThreads = 4;
const createRounds = 50;
/** With few nodes, the whole list is read several times for so many pages. */
const pages = 200;
const idleSeconds = 60;
/** Longer than it takes the controller to notice agents that do not answer. */
const hungMs = 30_000;
const waitMs = 300_000;

/** The rows of the table: what is measured, and its goal. */
const rows = {
  readyS: ['start of the controller until all nodes are ready, s', '< 30'],
  cutS: ['all connections cut at once: until all nodes are ready, s', '< 30'],
  hungS: ['all drivers stopped for 30 s, and continued: until all are ready, s', '< 30'],
  readyMiB: ['memory when all are ready, MiB', '< 400'],
  largestMiB: ['largest memory during all measurements, MiB', '< 400'],
  idlePercent: ['processor time without calls (pings and Hello), % of a core', ''],
  sweepS: [
    `GetCapacity for every node and ${classes} classes, ${capacityThreads} at a time, s`,
    '< 60',
  ],
  pageMs: [`page of ${pageSize} volumes, ${volumesPerNode} on each node, p50 ms`, '< 20'],
  pageSlowMs: ['the same, p99 ms', ''],
  emptyMs: ['ListSnapshots when no node has any, p50 ms', ''],
  createMs: ['CreateVolume with one candidate, p50 ms', ''],
  createSlowMs: ['the same, p99 ms', ''],
  immediateMs: ['CreateVolume with all nodes as candidates, p50 ms', ''],
  immediateManyS: ['100 of these at once, s', ''],
  immediateFailures: ['calls of these that had to be repeated', ''],
} as const;
type Row = keyof typeof rows;
type Measured = Record<Row, number>;

export class Agents {
  readonly #options: FakeAgentsOptions;
  #process: ChildProcess | undefined;

  constructor(options: FakeAgentsOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const child = fork(join(import.meta.dirname, 'fake-agents.js'));
    this.#process = child;
    await this.#ask(this.#options, 'listening');
  }

  /** Resets all connections, as if all drivers restarted at the same moment. */
  async cut(): Promise<void> {
    await this.#ask('cut', 'cut');
  }

  async #ask(message: FakeAgentsOptions | 'cut', expected: string): Promise<void> {
    const child = this.#process;
    if (child === undefined) throw new Error('the agents have not been started');
    child.send(message);
    const [how] = (await Promise.race([once(child, 'message'), once(child, 'exit')])) as unknown[];
    if (how !== expected) throw new Error(`the process with the agents ended: ${String(how)}`);
  }

  signal(name: NodeJS.Signals): void {
    this.#process?.kill(name);
  }

  async kill(): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
}

export interface ControllerProcess {
  readonly endpoint: string;
  readonly httpPort: number;
  readonly pid: number;
  readonly stop: () => Promise<void>;
}

export async function startController(
  directory: string,
  flags: readonly string[],
): Promise<ControllerProcess> {
  const endpoint = `unix://${join(directory, 'controller.sock')}`;
  const logFile = join(directory, 'controller.log');
  const output = await open(logFile, 'w');
  const child = spawn(
    launcher,
    ['controller', `--endpoint=${endpoint}`, '--http-address=127.0.0.1:0', ...flags],
    { stdio: ['ignore', output.fd, output.fd] },
  );
  const ended = once(child, 'exit');
  await output.close();
  return {
    endpoint,
    httpPort: await portOf({ log: () => readFile(logFile, 'utf8') }, 'httpPort'),
    pid: child.pid ?? 0,
    stop: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** The number of nodes that are ready; NaN while the controller is too busy to say it. */
async function countReady({ httpPort }: ControllerProcess): Promise<number> {
  const metrics = await scrape(`http://127.0.0.1:${httpPort}/metrics`).catch(() => '');
  return Number(/^loopcsi_agents\{state="ready"\} (\d+)$/m.exec(metrics)?.[1]);
}

/** Seconds until so many nodes are ready. */
export async function secondsUntilReady(
  controller: ControllerProcess,
  count: number,
): Promise<number> {
  const waited = await elapsedMs(() =>
    until(
      `${count} nodes are ready`,
      async () => {
        if ((await countReady(controller)) === count) return true;
        // Each scrape takes processor time from what it waits for.
        await delay(100);
        return false;
      },
      waitMs,
    ),
  );
  return waited / 1000;
}

const access_mode = { mode: 'SINGLE_NODE_WRITER' } as const;
const capability = { access_mode, access_type: 'mount', mount: { fs_type: 'ext4' } } as const;

async function createVolume(
  client: Client<'csi.v1.Controller'>,
  name: string,
  accessibility_requirements: TopologyRequirement,
): Promise<void> {
  await client.CreateVolume({
    name,
    capacity_range: { required_bytes: 64n * MiB },
    volume_capabilities: [capability],
    accessibility_requirements,
  });
}

function topologyOf(index: number) {
  const { key, value } = topologyOfNode('loopcsi.io', nodeIdOf(index));
  return { segments: { [key]: value } };
}

/** All nodes, in another order for every volume, as a provisioner asks for a claim with Immediate binding. */
function anyOf(count: number, volume: number): TopologyRequirement {
  const requisite = Array.from({ length: count }, (_, index) => topologyOf(index));
  const first = (volume * 37) % count;
  return { requisite, preferred: [...requisite.slice(first), ...requisite.slice(0, first)] };
}

async function sweepCapacities(client: Client<'csi.v1.Controller'>, count: number): Promise<void> {
  const asked = Array.from({ length: classes * count }, (_, index) => index);
  await mapConcurrently(asked, capacityThreads, async (index) => {
    const { available_capacity } = await client.GetCapacity({
      volume_capabilities: [capability],
      parameters: index % classes === 0 ? {} : { provisioning: 'thick' },
      accessible_topology: topologyOf(Math.floor(index / classes)),
    });
    if (available_capacity === 0n) throw new Error('a node has no capacity');
  });
}

/** Lists all volumes in pages, again and again until there are enough pages, and returns the milliseconds of each. */
async function timePages(client: Client<'csi.v1.Controller'>, volumes: number): Promise<number[]> {
  const times: number[] = [];
  while (times.length < pages) times.push(...(await timeList(client, volumes)));
  return times;
}

async function timeList(client: Client<'csi.v1.Controller'>, volumes: number): Promise<number[]> {
  const times: number[] = [];
  let listed = 0;
  let starting_token = '';
  do {
    const startMs = performance.now();
    const page = await client.ListVolumes({ max_entries: pageSize, starting_token });
    times.push(performance.now() - startMs);
    listed += page.entries.length;
    starting_token = page.next_token;
  } while (starting_token !== '');
  if (listed !== volumes) throw new Error(`the controller listed ${listed} of ${volumes} volumes`);
  return times;
}

async function timeEach(
  rounds: number,
  work: (round: number) => Promise<unknown>,
): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round += 1) times.push(await elapsedMs(() => work(round)));
  return times;
}

/** Creates volumes at once, and repeats those that failed, as the provisioner does. Returns how many calls had to be repeated. */
async function createAtOnce(client: Client<'csi.v1.Controller'>, count: number): Promise<number> {
  let failures = 0;
  await Promise.all(
    Array.from({ length: 100 }, async (_, index) => {
      const create = () => createVolume(client, `many-${index}`, anyOf(count, index));
      while ((await codeOf(create())) !== 'OK') {
        failures += 1;
        await delay(1_000);
      }
    }),
  );
  return failures;
}

export async function measureCalls(
  { endpoint }: ControllerProcess,
  count: number,
): Promise<
  Omit<Measured, 'readyS' | 'cutS' | 'hungS' | 'readyMiB' | 'largestMiB' | 'idlePercent'>
> {
  const client = makeClient('csi.v1.Controller', endpoint);
  try {
    const listed = await timePages(client, count * volumesPerNode);
    const empty = await timeEach(10, () => client.ListSnapshots({ max_entries: pageSize }));
    const sweep = await elapsedMs(() => sweepCapacities(client, count));
    const creates = await timeEach(createRounds, (round) => {
      const topology = topologyOf(round % count);
      return createVolume(client, `one-${round}`, { requisite: [topology], preferred: [topology] });
    });
    const immediate = await timeEach(10, (round) =>
      createVolume(client, `any-${round}`, anyOf(count, round)),
    );
    let immediateFailures = 0;
    const many = await elapsedMs(async () => {
      immediateFailures = await createAtOnce(client, count);
    });
    return {
      sweepS: sweep / 1000,
      pageMs: percentile(listed, 50),
      pageSlowMs: percentile(listed, 99),
      emptyMs: percentile(empty, 50),
      createMs: percentile(creates, 50),
      createSlowMs: percentile(creates, 99),
      immediateMs: percentile(immediate, 50),
      immediateManyS: many / 1000,
      immediateFailures,
    };
  } finally {
    client.close();
  }
}

/** Processor time while nobody calls, in percent of a core. */
export async function measureIdle(pid: number): Promise<number> {
  const before = await processorMs(pid);
  await delay(idleSeconds * 1000);
  return ((await processorMs(pid)) - before) / (idleSeconds * 10);
}

export async function measureNodes(directory: string, count: number): Promise<Measured> {
  const tls = join(directory, `tls-${count}`);
  const made = await runCommand('/nowhere', 'tls', 'create', tls);
  if (made.exitCode !== 0) throw new Error(made.stderr);
  // Addresses and a port that other programs of this machine do not use.
  const network = `127.${100 + (process.pid % 100)}`;
  const port = 9737;
  const agents = new Agents({ count, port, network, tlsDir: join(tls, 'agent'), volumesPerNode });
  await agents.start();
  let controller: ControllerProcess | undefined;
  try {
    const addresses = Array.from(
      { length: count },
      (_, index) => `${hostOf(network, index)}:${port}`,
    );
    const startedMs = performance.now();
    controller = await startController(directory, [
      `--agents=static:${addresses.join(',')}`,
      `--tls-dir=${join(tls, 'controller')}`,
    ]);
    await secondsUntilReady(controller, count);
    const readyS = (performance.now() - startedMs) / 1000;
    const readyMiB = await residentMiB(controller.pid);
    const idlePercent = await measureIdle(controller.pid);
    const calls = await measureCalls(controller, count);
    await agents.cut();
    const cutS = await secondsUntilReady(controller, count);
    agents.signal('SIGSTOP');
    await delay(hungMs);
    const hung = await countReady(controller);
    if (hung > 0)
      throw new Error(`${hung} nodes count as ready although their drivers are stopped`);
    agents.signal('SIGCONT');
    const hungS = await secondsUntilReady(controller, count);
    const largestMiB = await largestResidentMiB(controller.pid);
    return { readyS, cutS, hungS, readyMiB, largestMiB, idlePercent, ...calls };
  } finally {
    await controller?.stop();
    await agents.kill();
  }
}

/** Measures a controller with 10, 100 and 1,000 nodes. */
export async function benchController(directory: string): Promise<string> {
  const measured: Measured[] = [];
  for (const count of nodeCounts) measured.push(await measureNodes(directory, count));
  const names = Object.keys(rows) as readonly Row[];
  return asMarkdown(
    ['', 'goal', ...nodeCounts.map((count) => `${count} nodes`)],
    names.map((name) => {
      const cells = measured.map((one) => one[name]);
      return [...rows[name], ...cells.map((value) => value.toFixed(value < 10 ? 1 : 0))];
    }),
  );
}
