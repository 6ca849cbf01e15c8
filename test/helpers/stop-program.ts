/**
 * Separate process: stop-program PID NAME. Polls the children of process PID without a pause, stops the first one called NAME
 * with SIGSTOP, and prints its process id. Some programs run for milliseconds, so a poll with pauses would miss them.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { kill } from 'node:process';
import { scaledMs } from './slowness.ts';

const timeoutMs = scaledMs(60_000);

export interface StoppedProgram {
  readonly pid: number;
}

/** Returns once the polling has begun. `stopped` resolves when the program is stopped. */
export async function stopProgram(
  driverPid: number,
  name: string,
): Promise<{ readonly stopped: Promise<StoppedProgram> }> {
  const child = spawn(process.execPath, [import.meta.filename, String(driverPid), name], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: string[] = [];
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (text: string) => lines.push(...text.trim().split('\n')));
  const ended = once(child, 'exit');
  await once(child.stdout, 'data');
  const stopped = ended.then(() => {
    const pid = Number(lines.at(-1));
    if (!Number.isInteger(pid)) throw new Error(`${name} was not seen`);
    return { pid };
  });
  stopped.catch(() => undefined);
  return { stopped };
}

function watchFor(driverPid: string, name: string): number | undefined {
  const children = `/proc/${driverPid}/task/${driverPid}/children`;
  for (const giveUpAt = Date.now() + timeoutMs; Date.now() < giveUpAt; ) {
    for (const pid of readFileSync(children, 'latin1').split(' ').filter(Boolean)) {
      if (commandOf(pid) !== name) continue;
      kill(Number(pid), 'SIGSTOP');
      return Number(pid);
    }
  }
  return undefined;
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'latin1').trim();
  } catch {
    return '';
  }
}

const [driverPid, name] = process.argv.slice(2);
if (driverPid !== undefined && name !== undefined && import.meta.filename === process.argv[1]) {
  process.stdout.write('looking\n');
  process.stdout.write(`${watchFor(driverPid, name) ?? 'nothing'}\n`);
}
