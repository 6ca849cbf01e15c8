/** Processes that a test starts and ends, each by its process ID. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readdir, readFile } from 'node:fs/promises';
import { eventually } from '../../scripts/command.ts';

/** A program that runs until it is ended. */
export interface Service {
  readonly pid: number;
  /** Whether it has ended, for any reason. */
  readonly hasEnded: () => boolean;
  /** Sends the signal and waits for the end. Sends SIGKILL if SIGTERM has not ended it within 15 s. */
  end(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>;
}

/** Starts a program and appends its output to `log`. */
export async function startService(
  argv: readonly string[],
  log: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<Service> {
  const [file = '', ...args] = argv;
  const output = await open(log, 'a');
  const child = spawn(file, args, {
    stdio: ['ignore', output.fd, output.fd],
    env: { ...process.env, ...environment },
  });
  const ended = once(child, 'exit');
  await once(child, 'spawn');
  await output.close();
  return {
    pid: child.pid ?? 0,
    hasEnded: () => hasEnded(child),
    end: async (signal = 'SIGTERM') => {
      if (hasEnded(child)) return;
      child.kill(signal);
      const retryLimit = setTimeout(() => child.kill('SIGKILL'), 15_000);
      await ended;
      clearTimeout(retryLimit);
    },
  };
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** IDs of processes whose command line has the text. Shims, which outlive their parent, name their directory there. */
export async function processesNaming(text: string): Promise<readonly number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => {
      const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      return line.includes(text) && pid !== process.pid;
    }),
  );
  return pids.filter((_, index) => found[index]);
}

/** IDs of processes in the cgroup of that name and those below it, in every hierarchy. */
export async function processesInCgroup(name: string): Promise<readonly number[]> {
  const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) =>
      (await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '')).includes(`:/${name}`),
    ),
  );
  return pids.filter((_, index) => found[index]);
}

/** Kills the processes that `find` returns until it returns none. */
export async function killAll(what: string, find: () => Promise<readonly number[]>): Promise<void> {
  await eventually(
    `the end of ${what}`,
    async () => {
      const pids = await find();
      for (const pid of pids) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // The process has just ended.
        }
      }
      return pids.length === 0 ? true : undefined;
    },
    { timeoutMs: 20_000, everyMs: 50 },
  );
}

/** The start time of a process in the kernel's ticks; undefined if no process has that ID. */
export async function startTimeOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The program's name may have any characters. After it come the state and, as field 22, the start time.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state = ''] = fields;
  return ['Z', 'X'].includes(state) ? undefined : fields[19];
}
