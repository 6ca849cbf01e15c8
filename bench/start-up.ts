import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeClient } from '../src/csi/client.ts';
import { asMarkdown, median, residentMiB } from './measure.ts';

const root = join(import.meta.dirname, '..', '..');
const rounds = 7;

interface Sample {
  readonly startMs: number;
  readonly idleMiB: number;
}

/** Measures the time until Probe first succeeds, and the memory one second later. */
async function measureStart(
  endpoint: string,
  file: string,
  flags: readonly string[],
): Promise<Sample> {
  const startedAtMs = performance.now();
  const child = spawn(file, flags, { stdio: 'ignore' });
  try {
    await waitForProbe(endpoint, child);
    const startMs = performance.now() - startedAtMs;
    await delay(1_000);
    return { startMs, idleMiB: await residentMiB(child.pid ?? 0) };
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
}

async function waitForProbe(endpoint: string, child: ChildProcess): Promise<void> {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the server exited with ${child.exitCode}`);
    const client = makeClient('csi.v1.Identity', `unix://${endpoint}`);
    try {
      await client.Probe({}, { timeoutMs: 1_000 });
      return;
    } catch {
      await delay(5);
    } finally {
      client.close();
    }
  }
}

/** Compares the start of the driver with that of a bare grpc-js server, alternating between the two. */
export async function benchStartUp(directory: string): Promise<string> {
  const ours: Sample[] = [];
  const bare: Sample[] = [];
  for (let i = 0; i < rounds; i += 1) {
    const bareEndpoint = join(directory, `bare-${i}.sock`);
    const program = join(root, 'dist', 'bench', 'bare-server.js');
    bare.push(
      await measureStart(bareEndpoint, process.execPath, [program, `unix://${bareEndpoint}`]),
    );
    const endpoint = join(directory, `ours-${i}.sock`);
    ours.push(
      await measureStart(endpoint, join(root, 'bin', 'loopcsi'), [
        'serve',
        `--endpoint=unix://${endpoint}`,
        `--state-dir=${join(directory, 'state')}`,
        `--pool=default=${join(directory, 'pool')},create`,
        '--log-level=warn',
      ]),
    );
  }
  const row = (name: string, valueOf: (sample: Sample) => number): string[] => {
    const [a, b] = [median(ours.map(valueOf)), median(bare.map(valueOf))];
    return [name, a.toFixed(0), b.toFixed(0), (a / b).toFixed(2)];
  };
  return asMarkdown(
    ['', 'driver', 'bare grpc-js server', 'ratio'],
    [
      row('start to first Probe, ms', ({ startMs }) => startMs),
      row('idle memory, MiB', ({ idleMiB }) => idleMiB),
    ],
  );
}
