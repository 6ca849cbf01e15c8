/** Real drivers of several nodes on this machine and a real controller, each a process of its own, with certificates of their own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { launcher, runCommand } from './command-line.ts';
import { type DriverProcess, portOf, startDriver } from './driver.ts';
import { until } from './until.ts';

export interface ControlledNodes {
  readonly nodeIds: readonly string[];
  readonly driverOf: (nodeId: string) => DriverProcess;
  /** Starts the driver of a node again, at the same address. */
  readonly restart: (nodeId: string) => Promise<void>;
  /** The socket of the controller. */
  readonly endpoint: string;
  /** The number of nodes in a state, as the controller's metrics say. */
  readonly countAgents: (state: string) => Promise<number>;
  readonly controllerLog: () => Promise<string>;
  readonly stop: () => Promise<void>;
}

/** Starts everything below `directory` and waits until the controller has all nodes. `flags` are those of the drivers. */
export async function startControlledNodes(
  directory: string,
  nodeIds: readonly string[],
  flags: readonly string[] = [],
): Promise<ControlledNodes> {
  const tls = join(directory, 'tls');
  const made = await runCommand('/nowhere', 'tls', 'create', tls);
  if (made.exitCode !== 0) throw new Error(made.stderr);
  const drivers = new Map<string, DriverProcess>();
  const ports = new Map<string, number>();
  const start = async (nodeId: string): Promise<void> => {
    const own = join(directory, nodeId);
    await mkdir(own, { recursive: true });
    const driver = await startDriver(own, [
      `--node-id=${nodeId}`,
      '--http-address=off',
      `--agent-address=127.0.0.1:${ports.get(nodeId) ?? 0}`,
      `--tls-dir=${join(tls, 'agent')}`,
      ...flags,
    ]);
    drivers.set(nodeId, driver);
    ports.set(nodeId, await portOf(driver, 'agentPort'));
  };
  for (const nodeId of nodeIds) await start(nodeId);
  const controller = await startController(directory, [
    `--agents=static:${[...ports.values()].map((port) => `127.0.0.1:${port}`).join(',')}`,
    `--tls-dir=${join(tls, 'controller')}`,
  ]);
  const countAgents = async (state: string): Promise<number> => {
    const response = await fetch(`http://127.0.0.1:${controller.httpPort}/metrics`);
    const line = new RegExp(`^loopcsi_agents\\{state="${state}"\\} (\\d+)$`, 'm');
    return Number(line.exec(await response.text())?.[1]);
  };
  await until('all nodes are ready', async () => (await countAgents('ready')) === nodeIds.length);
  return {
    nodeIds,
    driverOf: (nodeId) => {
      const driver = drivers.get(nodeId);
      if (driver === undefined) throw new Error(`there is no node ${nodeId}`);
      return driver;
    },
    restart: start,
    endpoint: controller.endpoint,
    countAgents,
    controllerLog: controller.log,
    stop: async () => {
      await controller.stop();
      await Promise.all([...drivers.values()].map(async (driver) => driver.stop()));
    },
  };
}

interface ControllerProcess {
  readonly endpoint: string;
  readonly httpPort: number;
  readonly log: () => Promise<string>;
  /** Sends SIGTERM. Throws if the process does not end with exit code 0. */
  readonly stop: () => Promise<void>;
}

async function startController(
  directory: string,
  flags: readonly string[],
): Promise<ControllerProcess> {
  const socket = join(directory, 'controller.sock');
  const logFile = join(directory, 'controller.log');
  const output = await open(logFile, 'a');
  const child = spawn(
    launcher,
    ['controller', `--endpoint=unix://${socket}`, '--http-address=127.0.0.1:0', ...flags],
    { stdio: ['ignore', output.fd, output.fd] },
  );
  const ended = once(child, 'exit').then(() => String(child.signalCode ?? child.exitCode));
  await output.close();
  const log = async (): Promise<string> => readFile(logFile, 'utf8');
  const httpPort = await portOf({ log }, 'httpPort');
  return {
    endpoint: `unix://${socket}`,
    httpPort,
    log,
    stop: async () => {
      child.kill('SIGTERM');
      const how = await ended;
      if (how !== '0') throw new Error(`the controller ended with ${how}:\n${await log()}`);
    },
  };
}
