import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { makeClient } from '../src/csi/client.ts';
import { ext4MakeArguments } from '../src/host/filesystem/ext4/mkfs-args.ts';
import { GiB } from '../src/units.ts';
import { startDriver } from '../test/helpers/driver.ts';
import { until } from '../test/helpers/until.ts';
import { asMarkdown, median, residentMiB, Timings } from './measure.ts';

const kinds = ['ext4', 'block'] as const;
type Kind = (typeof kinds)[number];

const sizeBytes = GiB;
/** Cycles per measurement, by the number of concurrent callers. */
const cyclesOf: Readonly<Record<number, number>> = { 1: 40, 4: 80, 16: 160 };
/** Create, stage, publish, unpublish, unstage, delete. */
const callsPerCycle = 6;
const rounds = 3;

/** Runs one life cycle of a volume, with the calls that the provisioner and the kubelet make. */
async function runCycle(
  clients: Clients,
  options: { kind: Kind; name: string; directory: string; timings: Timings },
): Promise<void> {
  const { kind, name, directory, timings } = options;
  const access_mode = { mode: 'SINGLE_NODE_WRITER' } as const;
  const capability =
    kind === 'block'
      ? ({ access_mode, access_type: 'block', block: {} } as const)
      : ({ access_mode, access_type: 'mount', mount: { fs_type: 'ext4' } } as const);
  const staging_target_path = join(directory, `staging-${name}`);
  const target_path = join(directory, `target-${name}`);
  await mkdir(staging_target_path, { recursive: true });
  const { volume } = await timings.time('CreateVolume', () =>
    clients.controller.CreateVolume({
      name,
      capacity_range: { required_bytes: sizeBytes },
      volume_capabilities: [capability],
    }),
  );
  const volume_id = volume?.volume_id ?? '';
  const staging = { volume_id, volume_capability: capability, staging_target_path };
  await timings.time('NodeStageVolume', () => clients.node.NodeStageVolume(staging));
  await timings.time('NodePublishVolume', () =>
    clients.node.NodePublishVolume({ ...staging, target_path }),
  );
  await timings.time('write 4 KiB, fsync', () =>
    writePage(kind === 'block' ? target_path : join(target_path, 'file')),
  );
  await timings.time('NodeUnpublishVolume', () =>
    clients.node.NodeUnpublishVolume({ volume_id, target_path }),
  );
  await timings.time('NodeUnstageVolume', () =>
    clients.node.NodeUnstageVolume({ volume_id, staging_target_path }),
  );
  await timings.time('DeleteVolume', () => clients.controller.DeleteVolume({ volume_id }));
}

async function writePage(path: string): Promise<void> {
  const file = await open(path, path.endsWith('/file') ? 'w' : 'r+');
  await file.write(Buffer.alloc(4096), 0, 4096, 0);
  await file.sync();
  await file.close();
}

function connect(endpoint: string) {
  return {
    controller: makeClient('csi.v1.Controller', `unix://${endpoint}`),
    node: makeClient('csi.v1.Node', `unix://${endpoint}`),
  };
}
type Clients = ReturnType<typeof connect>;

/** Measures cycles per second with the driver. */
async function measureDriver(
  clients: Clients,
  run: { kind: Kind; callers: number; directory: string; timings: Timings; round: number },
): Promise<number> {
  const { kind, callers, directory, timings, round } = run;
  const cyclesPerCaller = (cyclesOf[callers] ?? 40) / callers;
  const startMs = performance.now();
  await Promise.all(
    Array.from({ length: callers }, async (_, caller) => {
      for (let i = 0; i < cyclesPerCaller; i += 1) {
        const name = `${kind}-${callers}-${round}-${caller}-${i}`;
        await runCycle(clients, { kind, name, directory, timings });
      }
    }),
  );
  return (cyclesPerCaller * callers) / ((performance.now() - startMs) / 1000);
}

/** Measures the cost of the protocol: cycles per second if each call is an empty RPC to a bare server. */
async function measureProtocol(client: BareClient, callers: number): Promise<number> {
  const cyclesPerCaller = (cyclesOf[callers] ?? 40) / callers;
  const startMs = performance.now();
  await Promise.all(
    Array.from({ length: callers }, async () => {
      for (let i = 0; i < cyclesPerCaller * callsPerCycle; i += 1) await client.Probe({});
    }),
  );
  return (cyclesPerCaller * callers) / ((performance.now() - startMs) / 1000);
}

async function startBareServer(endpoint: string): Promise<ChildProcess> {
  const program = join(import.meta.dirname, 'bare-server.js');
  const child = spawn(process.execPath, [program, `unix://${endpoint}`], { stdio: 'ignore' });
  await until('the bare server answers', async () => {
    const client = makeClient('csi.v1.Identity', `unix://${endpoint}`);
    try {
      await client.Probe({}, { timeoutMs: 1_000 });
      return true;
    } catch {
      return false;
    } finally {
      client.close();
    }
  });
  return child;
}
type BareClient = ReturnType<typeof makeClient<'csi.v1.Identity'>>;

async function compileBareCycle(directory: string): Promise<string> {
  const program = join(directory, 'bare-cycle');
  const source = join(import.meta.dirname, '..', '..', 'bench', 'bare-cycle.c');
  await execa('cc', ['-O2', '-pthread', '-o', program, source]);
  return program;
}

/** Measures cycles per second with plain system calls and no driver. */
async function measureSystemCalls(
  program: string,
  run: { kind: Kind; callers: number; directory: string },
): Promise<number> {
  const { kind, callers, directory } = run;
  const cyclesPerCaller = (cyclesOf[callers] ?? 40) / callers;
  const flags = ext4MakeArguments(
    '',
    sizeBytes,
    {
      sectorSize: 4096,
      thick: false,
      uuid: '00000000-0000-4000-8000-000000000000',
      options: [],
    },
    true,
  ).slice(0, -1);
  const { stdout } = await execa(program, [
    directory,
    kind,
    String(callers),
    String(cyclesPerCaller),
    ...flags,
  ]);
  return (cyclesPerCaller * callers) / Number(stdout);
}

/** The programs that are measured. */
interface Rig {
  readonly directory: string;
  readonly clients: Clients;
  readonly bareClient: BareClient;
  readonly bareCycleProgram: string;
}

interface Measurement {
  readonly rates: readonly string[];
  readonly callTimes: string;
}

async function measure(rig: Rig, kind: Kind, callers: number): Promise<Measurement> {
  const { directory, clients, bareClient, bareCycleProgram } = rig;
  const timings = new Timings();
  const driver: number[] = [];
  const kernel: number[] = [];
  const protocol: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    kernel.push(await measureSystemCalls(bareCycleProgram, { kind, callers, directory }));
    driver.push(await measureDriver(clients, { kind, callers, directory, timings, round }));
    protocol.push(await measureProtocol(bareClient, callers));
  }
  const ratios = driver.map((rate, i) => rate / (kernel[i] ?? Number.NaN));
  const rates = [
    median(driver).toFixed(1),
    median(kernel).toFixed(1),
    median(ratios).toFixed(2),
    median(protocol).toFixed(0),
  ];
  return {
    rates: [kind, String(callers), ...rates],
    callTimes: `\n${kind}, ${callers} at once, in milliseconds:\n\n${asMarkdown(['call', 'p50', 'p99'], timings.rows())}`,
  };
}

/** Runs life cycles of 1 GiB volumes, alternating between the driver and the two baselines. */
export async function benchLifeCycle(directory: string): Promise<string> {
  const bareCycleProgram = await compileBareCycle(directory);
  const driver = await startDriver(directory, [
    '--log-level=warn',
    // No overcommit, which is the default. The guard of an overcommitted pool limits dirty pages, and removing that limit takes
    // 50 ms per detach.
    `--pool=default=${join(directory, 'pool')},create`,
  ]);
  const clients = connect(driver.endpoint);
  const bareEndpoint = join(directory, 'bare.sock');
  const server = await startBareServer(bareEndpoint);
  const bareClient = makeClient('csi.v1.Identity', `unix://${bareEndpoint}`);
  const rig: Rig = { directory, clients, bareClient, bareCycleProgram };
  const measurements: Measurement[] = [];
  const idleMiB = await residentMiB(driver.pid);
  let loadedMiB = 0;
  try {
    const warmUp = { kind: 'ext4', callers: 1, timings: new Timings(), round: -1 } as const;
    await measureDriver(clients, { directory, ...warmUp });
    for (const kind of kinds) {
      for (const callers of [1, 4, 16]) measurements.push(await measure(rig, kind, callers));
    }
    loadedMiB = await residentMiB(driver.pid);
  } finally {
    for (const client of [clients.controller, clients.node, bareClient]) client.close();
    server.kill();
    await once(server, 'exit');
    await driver.stop();
  }
  const head = [
    'volume',
    'concurrent',
    'driver, cycles/s',
    'bare calls, cycles/s',
    'ratio',
    'six empty RPCs, times/s',
  ];
  return [
    asMarkdown(
      head,
      measurements.map(({ rates }) => rates),
    ),
    ...measurements.map(({ callTimes }) => callTimes),
    `\nMemory of the driver: ${idleMiB.toFixed(0)} MiB idle, ${loadedMiB.toFixed(0)} MiB after the load.`,
  ].join('\n');
}
