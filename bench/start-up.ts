import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { makeClient } from '../src/csi/client.ts';
import { asMarkdown, median, residentMiB } from './measure.ts';

const root = join(import.meta.dirname, '..', '..');
const rounds = 7;

interface Started {
  readonly toProbeMs: number;
  readonly restMiB: number;
}

/** From the start of the process to the first answered Probe, and its memory some moments later. */
async function start(endpoint: string, file: string, flags: readonly string[]): Promise<Started> {
  const from = performance.now();
  const child = spawn(file, flags, { stdio: 'ignore' });
  try {
    await firstProbe(endpoint, child);
    const toProbeMs = performance.now() - from;
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    return { toProbeMs, restMiB: await residentMiB(child.pid ?? 0) };
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
}

async function firstProbe(endpoint: string, child: ChildProcess): Promise<void> {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
    const client = makeClient('csi.v1.Identity', `unix://${endpoint}`);
    try {
      await client.Probe({}, { timeoutMs: 1_000 });
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 5));
    } finally {
      client.close();
    }
  }
}

/** The driver against a bare grpc-js server, in turn. */
export async function benchStartUp(directory: string): Promise<string> {
  const ours: Started[] = [];
  const bare: Started[] = [];
  for (let i = 0; i < rounds; i += 1) {
    const bareEndpoint = join(directory, `bare-${i}.sock`);
    const program = join(root, 'dist', 'bench', 'bare-server.js');
    bare.push(await start(bareEndpoint, process.execPath, [program, `unix://${bareEndpoint}`]));
    const endpoint = join(directory, `ours-${i}.sock`);
    ours.push(
      await start(endpoint, join(root, 'bin', 'loopcsi'), [
        'serve',
        `--endpoint=unix://${endpoint}`,
        `--state-dir=${join(directory, 'state')}`,
        `--pool=default=${join(directory, 'pool')},create`,
        '--log-level=warn',
      ]),
    );
  }
  const row = (what: string, of: (one: Started) => number): string[] => {
    const [a, b] = [median(ours.map(of)), median(bare.map(of))];
    return [what, a.toFixed(0), b.toFixed(0), (a / b).toFixed(2)];
  };
  return asMarkdown(
    ['', 'driver', 'bare grpc-js server', 'ratio'],
    [
      row('start to first Probe, ms', (one) => one.toProbeMs),
      row('memory at rest, MiB', (one) => one.restMiB),
    ],
  );
}
