/** Runs the built driver with bin/loopcsi, as a user would. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Client, makeClient } from '../../src/csi/client.ts';
import { eventually } from '../command.ts';

const launcher = join(import.meta.dirname, '..', '..', '..', 'bin', 'loopcsi');

export interface RunningDriver {
  readonly controller: Client<'csi.v1.Controller'>;
  readonly admin: Client<'loopcsi.v1.Admin'>;
  readonly pid: number;
  /** Sends the signal and waits until the process has ended. */
  end(signal: NodeJS.Signals): Promise<void>;
}

/** Starts `loopcsi serve` with one pool in the directory, and waits until the driver is ready. */
export async function startDriver(directory: string): Promise<RunningDriver> {
  const endpoint = `unix://${join(directory, 'csi.sock')}`;
  const logFile = join(directory, 'driver.log');
  const log = await open(logFile, 'a');
  const child = spawn(
    launcher,
    [
      'serve',
      `--endpoint=${endpoint}`,
      `--pool=demo=${join(directory, 'pool')},create,reserve=0,force`,
      `--state-dir=${join(directory, 'state')}`,
      '--node-id=demo',
      '--http-address=off',
    ],
    // In its own process group, the driver does not get the SIGINT of Ctrl-C; the demo stops it after cleaning up.
    { stdio: ['ignore', log.fd, log.fd], detached: true },
  );
  const ended = once(child, 'exit');
  await log.close();
  const clients = {
    identity: makeClient('csi.v1.Identity', endpoint),
    controller: makeClient('csi.v1.Controller', endpoint),
    admin: makeClient('loopcsi.v1.Admin', endpoint),
  };
  const close = (): void => {
    for (const client of Object.values(clients)) client.close();
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    close();
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await ended;
  };
  try {
    await untilReady(child, () => clients.identity.Probe({}, { timeoutMs: 1_000 }));
  } catch (error) {
    await end('SIGKILL');
    const logEnd = (await readFile(logFile, 'utf8')).trim().split('\n').slice(-3).join('\n');
    throw new Error(`the driver did not start; the end of its log:\n${logEnd}`, { cause: error });
  }
  return { ...clients, pid: child.pid ?? 0, end };
}

async function untilReady(child: ChildProcess, probe: () => Promise<unknown>): Promise<void> {
  await eventually(
    'the driver',
    async () => {
      if (child.exitCode !== null) return 'exited';
      return probe().then(
        () => 'ready',
        () => undefined,
      );
    },
    { timeoutMs: 20_000, everyMs: 20 },
  );
  if (child.exitCode !== null) throw new Error('the driver exited');
}
