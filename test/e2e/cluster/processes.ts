/**
 * Long-running processes of a host. Each is recorded with its process ID and start time, so that another process can stop
 * or restart it later, and a reused ID is not mistaken for it.
 */
import { spawn } from 'node:child_process';
import { open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { eventually } from '../eventually.ts';
import type { HostLayout } from './layout.ts';

interface Recorded {
  readonly pid: number;
  readonly startTime: string;
}

/** Fields 3 and 22 of /proc/PID/stat; the name before them may have spaces and brackets. */
async function statOf(pid: number): Promise<{ state: string; startTime: string } | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, startTime] = [fields[0], fields[19]];
  return state === undefined || startTime === undefined ? undefined : { state, startTime };
}

async function recorded(host: HostLayout, name: string): Promise<Recorded | undefined> {
  const text = await readFile(join(host.processes, name), 'utf8').catch(() => '');
  const [pid, startTime] = text.split(' ');
  return pid === undefined || startTime === undefined ? undefined : { pid: Number(pid), startTime };
}

/** The process ID of the process that was started under that name, if it still runs. */
export async function findProcess(host: HostLayout, name: string): Promise<number | undefined> {
  const found = await recorded(host, name);
  if (found === undefined) return undefined;
  const now = await statOf(found.pid);
  return now?.startTime === found.startTime && now.state !== 'Z' ? found.pid : undefined;
}

/** Starts a program in a session of its own, and appends its output to its log. */
export async function startProcess(
  host: HostLayout,
  name: string,
  argv: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<void> {
  const log = await open(join(host.logs, `${name}.log`), 'a');
  try {
    const [file = '', ...args] = argv;
    const child = spawn(file, args, {
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      env: { ...process.env, ...environment },
    });
    await new Promise((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    child.unref();
    const pid = child.pid ?? 0;
    const startTime = (await statOf(pid))?.startTime ?? '';
    await writeFile(join(host.processes, name), `${pid} ${startTime}`);
  } finally {
    await log.close();
  }
}

/** Sends SIGTERM, then SIGKILL if needed, and returns when the process has ended. Does nothing if it does not run. */
export async function stopProcess(
  host: HostLayout,
  name: string,
  signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM',
): Promise<void> {
  const gone = async (): Promise<true | undefined> =>
    (await findProcess(host, name)) === undefined ? true : undefined;
  const pid = await findProcess(host, name);
  if (pid !== undefined) {
    process.kill(pid, signal);
    try {
      await eventually(`the end of ${name}`, gone, { timeoutMs: 8_000, everyMs: 50 });
    } catch {
      process.kill(pid, 'SIGKILL');
      await eventually(`the end of ${name}`, gone, { timeoutMs: 5_000, everyMs: 50 });
    }
  }
  await rm(join(host.processes, name), { force: true });
}

export async function processNames(host: HostLayout): Promise<string[]> {
  return readdir(host.processes);
}
