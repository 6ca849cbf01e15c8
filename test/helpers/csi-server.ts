import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { status } from '@grpc/grpc-js';
import type { ExecutionContext } from 'ava';
import { type Logger, pino } from 'pino';
import { type Client, makeClient } from '../../src/csi/client.ts';
import type { CallMeasurement } from '../../src/observe/metrics.ts';
import type { CsiContext, CsiSettings } from '../../src/rpc/context.ts';
import type { RunningServer } from '../../src/rpc/grpc-server.ts';
import { RemoteSources } from '../../src/rpc/remote-sources.ts';
import { serveCsi } from '../../src/rpc/server.ts';
import { topologyOfNode } from '../../src/rpc/topology.ts';
import type { Volumes } from '../../src/volumes/api.ts';
import { fakeVolumes, type Recorded } from './fake-volumes.ts';

const csiSettings: CsiSettings = {
  driverName: 'loopcsi.io',
  defaultFstype: 'ext4',
  clusterPools: undefined,
  expansion: 'both',
  withoutStaging: false,
};

/** The context of a driver on 'node-a'. */
export function csiContext(volumes: Volumes, settings: Partial<CsiSettings> = {}): CsiContext {
  return {
    settings: { ...csiSettings, ...settings },
    version: '1.2.3',
    volumes,
    remoteSources: new RemoteSources(),
    thisNode: topologyOfNode(csiSettings.driverName, 'node-a'),
  };
}

/** A log that keeps its lines of all levels in memory. */
export function memoryLog(): { readonly log: Logger; readonly lines: readonly string[] } {
  const lines: string[] = [];
  const sink = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      lines.push(chunk.toString());
      done();
    },
  });
  return { log: pino({ level: 'trace' }, sink), lines };
}

export interface Served {
  readonly endpoint: string;
  readonly server: RunningServer;
  readonly calls: readonly Recorded[];
  readonly ended: readonly CallMeasurement[];
  readonly lines: readonly string[];
  readonly identity: Client<'csi.v1.Identity'>;
  readonly controller: Client<'csi.v1.Controller'>;
  readonly node: Client<'csi.v1.Node'>;
}

/** The CSI services over a real unix socket, with a domain that only records. Ends with the test. */
export async function serveFake(
  t: ExecutionContext,
  options: {
    readonly settings?: Partial<CsiSettings>;
    readonly volumes?: Partial<Volumes>;
    readonly prefaceTimeoutMs?: number;
  } = {},
): Promise<Served> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-rpc-'));
  const endpoint = join(directory, 'csi.sock');
  const { volumes, calls } = fakeVolumes(options.volumes);
  const { log, lines } = memoryLog();
  const ended: CallMeasurement[] = [];
  const server = await serveCsi({
    endpoint,
    context: csiContext(volumes, options.settings),
    log,
    callEnded: (call) => ended.push(call),
    ...(options.prefaceTimeoutMs === undefined
      ? {}
      : { prefaceTimeoutMs: options.prefaceTimeoutMs }),
  });
  const address = `unix://${endpoint}`;
  const identity = makeClient('csi.v1.Identity', address);
  const controller = makeClient('csi.v1.Controller', address);
  const node = makeClient('csi.v1.Node', address);
  t.teardown(async () => {
    for (const client of [identity, controller, node]) client.close();
    await server.close();
    await rm(directory, { recursive: true, force: true });
  });
  return { endpoint, server, calls, ended, lines, identity, controller, node };
}

/** The name of the gRPC code with which a call fails; `OK` when it does not. */
export async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'OK';
  } catch (error) {
    if (error instanceof Error && 'code' in error && typeof error.code === 'number') {
      return status[error.code] ?? String(error.code);
    }
    throw error;
  }
}
