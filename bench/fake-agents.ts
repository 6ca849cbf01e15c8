/**
 * A process with the agents of many nodes: the driver's own listener, TLS, gRPC servers and services, on volumes in memory. It tells its
 * parent, over IPC, when all agents listen or all connections were cut, and ends with it.
 */
import { subscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import { pino } from 'pino';
import { mapConcurrently } from '../src/async.ts';
import { missing, nodeTagOf, snapshotIdFor, volumeIdFor } from '../src/ids.ts';
import { serveAgent } from '../src/rpc/agent/server.ts';
import type { CsiContext } from '../src/rpc/context.ts';
import { RemoteSources } from '../src/rpc/remote-sources.ts';
import { topologyOfNode } from '../src/rpc/topology.ts';
import { MiB } from '../src/units.ts';
import type { Volume } from '../src/volumes/model.ts';
import { pageOf } from '../src/volumes/pool/record-index.ts';
import { aVolume, fakeVolumes } from '../test/helpers/fake-volumes.ts';

export interface FakeAgentsOptions {
  readonly count: number;
  /** Agent number `i` listens on the address `hostOf(i)`, and all have this port. */
  readonly port: number;
  /** The first two numbers of all addresses. */
  readonly network: string;
  readonly tlsDir: string;
  readonly volumesPerNode: number;
}

const driverName = 'loopcsi.io';
/** The certificates do not change here, and 1,000 agents would read 3,000 files every few seconds. */
const pollMs = 24 * 60 * 60 * 1000;

/** An address of its own for each node, as in a cluster: a port that was released cannot be taken by a connection meanwhile. */
export function hostOf(network: string, index: number): string {
  return `${network}.${index >> 8}.${index & 255}`;
}

export function nodeIdOf(index: number): string {
  return `node-${String(index).padStart(4, '0')}`;
}

/** The volumes of a node in memory; what a volume is otherwise does not matter here. */
function volumesInMemory(nodeId: string, count: number) {
  const nodeTag = nodeTagOf(nodeId);
  const byId = new Map<string, Volume>();
  const add = (name: string): Volume => {
    const id = volumeIdFor(name, nodeTag);
    const known = byId.get(id);
    if (known !== undefined) return known;
    const volume: Volume = { ...aVolume, record: { ...aVolume.record, id, name } };
    byId.set(id, volume);
    return volume;
  };
  for (let index = 0; index < count; index += 1) add(`pvc-${nodeId}-${index}`);
  return fakeVolumes({
    inventory: () => ({
      nodeTag,
      pools: [{ name: 'default', uuid: snapshotIdFor('pool', nodeTag) }],
      foreignIds: [],
      volumeCount: byId.size,
      undecidedGroups: [],
    }),
    createVolume: async (_call, { name }) => add(name),
    deleteVolume: async (_call, id) => {
      byId.delete(id);
    },
    getVolume: async (id) => {
      const volume = byId.get(id);
      if (volume === undefined) throw missing('volume', id);
      return volume;
    },
    listVolumes: async (page) =>
      pageOf(
        [...byId.values()].sort((a, b) => (a.record.id < b.record.id ? -1 : 1)),
        { ...page, idOf: ({ record }) => record.id },
      ),
    listSnapshots: async () => ({ entries: [], nextToken: '' }),
    capacity: async () => ({
      availableBytes: 100_000n * MiB,
      maximumVolumeBytes: 100_000n * MiB,
      minimumVolumeBytes: MiB,
    }),
  }).volumes;
}

async function serveNode(options: FakeAgentsOptions, index: number): Promise<void> {
  const { network, port, tlsDir, volumesPerNode } = options;
  const nodeId = nodeIdOf(index);
  const context: CsiContext = {
    settings: {
      driverName,
      defaultFstype: 'ext4',
      clusterPools: undefined,
      expansion: 'both',
      withoutStaging: false,
    },
    version: '1.0.0',
    volumes: volumesInMemory(nodeId, volumesPerNode),
    remoteSources: new RemoteSources(),
    thisNode: topologyOfNode(driverName, nodeId),
  };
  await serveAgent({
    address: { host: hostOf(network, index), port },
    tlsDir,
    context,
    log: pino({ level: 'silent' }),
    callEnded: () => undefined,
    connectionRefused: () => undefined,
    pollMs,
  });
}

/** Serves the agents that the parent asks for. */
async function serve(options: FakeAgentsOptions): Promise<void> {
  const indexes = Array.from({ length: options.count }, (_, index) => index);
  await mapConcurrently(indexes, 16, async (index) => serveNode(options, index));
  process.send?.('listening');
}

/** Connections of all agents. */
const connections = new Set<Socket>();

function followConnections(): void {
  subscribe('net.server.socket', (message) => {
    const { socket } = message as { readonly socket: Socket };
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
  });
}

if (process.send !== undefined && process.argv[1] === import.meta.filename) {
  followConnections();
  process.on('message', (message) => {
    if (message === 'cut') {
      for (const socket of connections) socket.resetAndDestroy();
      process.send?.('cut');
      return;
    }
    // Only bench/controller.ts starts this program.
    void serve(message as FakeAgentsOptions);
  });
  process.on('disconnect', () => process.exit(0));
}
