/** A controller in this process, with fake agents and a clock that tests can advance. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials, status } from '@grpc/grpc-js';
import type { ExecutionContext } from 'ava';
import { pollUntil } from '../../src/async.ts';
import { type AgentTimings, agentTimings } from '../../src/controller/agent.ts';
import type { AgentCredentials } from '../../src/controller/connection.ts';
import { type RunningController, startController } from '../../src/controller/controller.ts';
import type { AgentEndpoint, Discovery } from '../../src/controller/discovery/discovery.ts';
import type { NodeStore } from '../../src/controller/nodes/node-store.ts';
import { type Client, makeClient } from '../../src/csi/client.ts';
import { memoryLog } from './csi-server.ts';
import type { FakeAgent } from './fake-agent.ts';

/** Connections without TLS. */
export const plainCredentials: AgentCredentials = {
  forChannel: () => credentials.createInsecure(),
  watch: () => () => undefined,
};

/** Attempts to connect follow each other quickly, and an agent that does not answer is found soon. */
export const quickTimings: AgentTimings = {
  ...agentTimings,
  firstReconnectMs: 50,
  maxReconnectMs: 100,
  helloRetryMs: 100,
};

/** Records of nodes in memory. Several controllers can have the same. */
export function memoryNodeStore(initial?: string): NodeStore & { text: string | undefined } {
  const listeners = new Set<(text: string | undefined) => void>();
  const store = {
    description: 'the memory',
    text: initial,
    follow: (onText: (text: string | undefined) => void) => {
      listeners.add(onText);
      onText(store.text);
      return { close: () => listeners.delete(onText) };
    },
    update: async (change: (text: string | undefined) => string) => {
      store.text = change(store.text);
      for (const listener of listeners) listener(store.text);
      return store.text;
    },
  };
  return store;
}

/** The text of records in which these nodes are forgotten. */
export function forgottenText(...names: readonly string[]): string {
  const forgotten = { at: '2026-01-02T03:04:05.000Z', by: 'operator', addresses: [] };
  return JSON.stringify({ schemaVersion: 1, nodes: names.map((name) => ({ name, forgotten })) });
}

/** A discovery that a test changes. */
export function changeableDiscovery(): Discovery & {
  set(endpoints: readonly (string | AgentEndpoint)[]): void;
} {
  const listeners = new Set<(endpoints: readonly AgentEndpoint[]) => void>();
  return {
    watch: (onChange) => {
      listeners.add(onChange);
      return { close: () => listeners.delete(onChange) };
    },
    set: (endpoints) => {
      const list = endpoints.map((one) =>
        typeof one === 'string' ? { address: one, isServing: true, isTerminating: false } : one,
      );
      for (const listener of listeners) listener(list);
    },
  };
}

export interface TestController {
  readonly endpoint: string;
  readonly running: RunningController;
  readonly discovery: ReturnType<typeof changeableDiscovery>;
  readonly lines: readonly string[];
  readonly identity: Client<'csi.v1.Identity'>;
  readonly controller: Client<'csi.v1.Controller'>;
  readonly groups: Client<'csi.v1.GroupController'>;
  readonly metadata: Client<'csi.v1.SnapshotMetadata'>;
  readonly nodes: Client<'loopcsi.v1.Nodes'>;
  /** Lets time pass for the rules about how long a node has been unreachable. */
  readonly advance: (ms: number) => void;
  /** Waits until the node of that name is in that state. */
  readonly until: (
    name: string,
    state: 'connecting' | 'ready' | 'unreachable' | 'refused',
  ) => Promise<void>;
}

/** Starts a controller, which ends with the test. Without `agents`, its discovery has not named any yet. */
export async function startTestController(
  t: ExecutionContext,
  agents: readonly FakeAgent[] | undefined,
  options: {
    readonly timings?: Partial<AgentTimings>;
    /** By default one in memory. */
    readonly nodeStore?: NodeStore;
    readonly credentials?: AgentCredentials;
    readonly shutdownTimeoutMs?: number;
    readonly httpAddress?: { readonly host: string; readonly port: number };
    readonly isHttpOptional?: boolean;
  } = {},
): Promise<TestController> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-controller-'));
  const endpoint = join(directory, 'csi.sock');
  const discovery = changeableDiscovery();
  const { log, lines } = memoryLog();
  let advancedMs = 0;
  const running = await startController({
    endpoint,
    driverName: 'loopcsi.io',
    version: '1.2.3',
    discovery,
    credentials: options.credentials ?? plainCredentials,
    log,
    httpAddress: options.httpAddress,
    isHttpOptional: options.isHttpOptional ?? false,
    shutdownTimeoutMs: options.shutdownTimeoutMs ?? 1_000,
    timings: { ...quickTimings, ...options.timings },
    nowMs: () => performance.now() + advancedMs,
    nodeStore: options.nodeStore ?? memoryNodeStore(),
  });
  const address = `unix://${endpoint}`;
  const clients = {
    identity: makeClient('csi.v1.Identity', address),
    controller: makeClient('csi.v1.Controller', address),
    groups: makeClient('csi.v1.GroupController', address),
    metadata: makeClient('csi.v1.SnapshotMetadata', address),
    nodes: makeClient('loopcsi.v1.Nodes', address),
  };
  t.teardown(async () => {
    for (const client of Object.values(clients)) client.close();
    await running.stop();
    await rm(directory, { recursive: true, force: true });
  });
  const until: TestController['until'] = async (name, state) => {
    const isThere = (): boolean => {
      const node = running.agents.nodes().find((one) => one.name === name);
      if (node === undefined) return false;
      return state === 'ready' ? node.agent !== undefined : node.absence?.kind === state;
    };
    const reached = await pollUntil(isThere, { timeoutMs: 60_000, pauseMs: 10 });
    if (!reached)
      throw new Error(
        `${name} is not ${state}: ${JSON.stringify(running.agents.nodes().map(({ name, absence }) => ({ name, absence })))}`,
      );
  };
  if (agents !== undefined) discovery.set(agents.map((agent) => agent.address));
  return {
    endpoint,
    running,
    discovery,
    lines,
    ...clients,
    advance: (ms) => {
      advancedMs += ms;
    },
    until,
  };
}

/** The name of the code and the message with which a call ends; `OK` without a message when it does not fail. */
export async function endOf(
  call: Promise<unknown>,
): Promise<{ readonly code: string; readonly message: string }> {
  try {
    await call;
    return { code: 'OK', message: '' };
  } catch (error) {
    if (error instanceof Error && 'code' in error && typeof error.code === 'number') {
      const message = 'details' in error ? String(error.details) : error.message;
      return { code: status[error.code] ?? String(error.code), message };
    }
    throw error;
  }
}

export const aCapability = {
  access_mode: { mode: 'SINGLE_NODE_WRITER' },
  access_type: 'mount',
  mount: { fs_type: '', mount_flags: [], volume_mount_group: '' },
} as const;
