/** An agent with a small in-memory driver, behind a connection that a test can hang, cut and restore. */
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { status } from '@grpc/grpc-js';
import type { ExecutionContext } from 'ava';
import type { HelloResponse, TakeGroupPartRequest } from '../../src/csi/agent-types.ts';
import type { Snapshot, Volume } from '../../src/csi/types.ts';
import { VolumeError } from '../../src/errors.ts';
import {
  groupIdFor,
  nodeTagOf,
  otherNodeTagIn,
  requireOwnId,
  snapshotIdFor,
  volumeIdFor,
} from '../../src/ids.ts';
import { type CsiServiceName, offeredCalls } from '../../src/rpc/advertised.ts';
import type { ServerHooks } from '../../src/rpc/call.ts';
import { limitCalls } from '../../src/rpc/call.ts';
import { makeGrpcServer, makeService } from '../../src/rpc/grpc-server.ts';
import { type Implementation, makeHandlers } from '../../src/rpc/handlers.ts';
import { StatusError } from '../../src/rpc/status.ts';
import { topologyOfNode } from '../../src/rpc/topology.ts';
import { pageOf } from '../../src/volumes/pool/record-index.ts';
import { memoryLog } from './csi-server.ts';

const driverName = 'loopcsi.io';

/** What happens to a call before or after its effect. */
export type Mishap = (rpc: string) => 'fail before' | 'fail after' | undefined;

export interface FakeAgent {
  readonly address: string;
  readonly nodeId: string;
  readonly tag: string;
  readonly volumes: Map<string, Volume>;
  readonly snapshots: Map<string, Snapshot>;
  readonly groups: Map<string, { readonly attempt: string; readonly members: readonly Snapshot[] }>;
  /** Groups that it says it is taking. */
  readonly runningGroups: Set<string>;
  /** Whether it is new enough to take parts of groups over several nodes. */
  takesGroupParts: boolean;
  /** Whether all its volumes are block volumes in use. */
  areVolumesLive: boolean;
  /** Tickets of sources on other nodes, by their ids. CreateVolume takes one. */
  readonly offers: Map<string, string>;
  /** The names of the RPCs that were called, without Hello, and of the steps of parts of groups. */
  readonly calls: string[];
  /** What Hello answers; changes take effect at the next Hello. */
  hello: HelloResponse;
  /** Volumes that still fit. */
  room: number;
  /** Whether a new snapshot is ready at once, rather than being copied. */
  isSnapshotReady: boolean;
  mishap: Mishap;
  /** Called before each call is answered, so that it can wait. */
  before: (rpc: string) => Promise<void>;
  /** Nothing passes the connection any more, but it stays open: a stopped process, or a network that drops packets. */
  hang(): void;
  /** Closes all connections and refuses new ones: a killed process. */
  cut(): Promise<void>;
  /** Undoes `hang` and `cut`. */
  restore(): Promise<void>;
}

/** Starts an agent on a port of its own, which ends with the test. */
export async function startFakeAgent(
  t: Pick<ExecutionContext, 'teardown'>,
  nodeId: string,
  options: {
    readonly hello?: Partial<HelloResponse>;
    readonly room?: number;
    readonly takesGroupParts?: boolean;
    /** Without it, connections have no TLS. */
    readonly tls?: TlsOptions;
  } = {},
): Promise<FakeAgent> {
  const { key, value } = topologyOfNode(driverName, nodeId);
  const hello: HelloResponse = {
    api_version: 1,
    version: '1.0.0',
    driver_name: driverName,
    node_id: nodeId,
    node_tag: nodeTagOf(nodeId),
    segments: { [key]: value },
    pools: [{ name: 'default', uuid: `uuid-of-${nodeId}` }],
    foreign_ids: [],
    volume_count: { value: 0n },
    peer_addresses: [],
    undecided_groups: [],
    ...options.hello,
  };
  const state = {
    nodeId,
    tag: nodeTagOf(nodeId),
    volumes: new Map<string, Volume>(),
    snapshots: new Map<string, Snapshot>(),
    groups: new Map(),
    runningGroups: new Set<string>(),
    takesGroupParts: options.takesGroupParts ?? true,
    areVolumesLive: false,
    offers: new Map<string, string>(),
    calls: [] as string[],
    hello,
    room: options.room ?? 1_000,
    isSnapshotReady: true,
    mishap: (() => undefined) as Mishap,
    before: async () => undefined as void,
  };
  const server = makeGrpcServer(servicesOf(state));
  const gate = await openGate((socket) => {
    server.serve(socket);
  }, options.tls);
  t.teardown(async () => {
    await gate.cut();
    await server.close();
  });
  return Object.assign(state, {
    address: `127.0.0.1:${gate.port}`,
    hang: gate.hang,
    cut: gate.cut,
    restore: gate.restore,
  });
}

type State = Omit<FakeAgent, 'address' | 'hang' | 'cut' | 'restore'>;

function servicesOf(state: State) {
  const { log } = memoryLog();
  const hooks: ServerHooks = {
    log,
    callEnded: () => undefined,
    admit: limitCalls(1_000),
    fieldsOf: () => ({}),
  };
  const features = { expansion: 'both', withoutStaging: false } as const;
  const csi = <N extends CsiServiceName>(name: N, methods: Implementation<N>) =>
    makeService(
      name,
      makeHandlers(name, methods, hooks, {
        calls: new Map(
          [...offeredCalls(name, features)].map(([rpc, call]) => [rpc, { ...call, offered: true }]),
        ),
        checksSizeLimits: true,
      }),
    );
  return [
    makeService(
      'loopcsi.agent.v1.Agent',
      makeHandlers('loopcsi.agent.v1.Agent', agentOf(state), hooks, {
        calls: new Map(
          [
            'Hello',
            'OpenSource',
            'OfferSource',
            'CloseSource',
            ...(state.takesGroupParts
              ? [
                  'TakeGroupPart',
                  'AdvanceGroupPart',
                  'FindGroup',
                  'SettleGroupPart',
                  'RemoveGroupPart',
                ]
              : []),
          ].map((rpc) => [rpc, { logClass: 'polling', offered: true }] as const),
        ),
        checksSizeLimits: false,
      }),
    ),
    csi('csi.v1.Controller', watched(state, controllerOf(state))),
    csi('csi.v1.GroupController', watched(state, groupControllerOf(state))),
    csi('csi.v1.SnapshotMetadata', metadataOf(state)),
  ];
}

function agentOf(state: State): Implementation<'loopcsi.agent.v1.Agent'> {
  const opening: Implementation<'loopcsi.agent.v1.Agent'> = {
    async OpenSource({ source, peer_addresses }) {
      const id = source?.id ?? '';
      if (source?.kind === 'volume') volumeOf(state, id);
      else found(state.snapshots, 'snapshot', id);
      return { ticket: `${id} of ${state.nodeId} for ${peer_addresses.join(' ')}` };
    },
    async OfferSource({ source, ticket }) {
      state.offers.set(source?.id ?? '', ticket);
      return {};
    },
    async CloseSource() {
      return {};
    },
  };
  return { Hello: async () => state.hello, ...watched(state, opening), ...groupPartsOf(state) };
}

/** Takes any step at any time. `calls` has each step, and the end of each lease. */
function groupPartsOf(state: State): Implementation<'loopcsi.agent.v1.Agent'> {
  const parts = new Map<string, TakeGroupPartRequest>();
  const memberOf = (groupId: string, source_volume_id: string): Snapshot =>
    snapshotMessage(state, {
      name: `${groupId}/${source_volume_id}`,
      source_volume_id,
      group: groupId,
    });
  const advance: Implementation<'loopcsi.agent.v1.Agent'> = {
    async AdvanceGroupPart({ attempt, step, elsewhere }) {
      const part = found(parts, 'attempt', attempt);
      const own = part.source_volume_ids.map((id) => memberOf(part.group_id, id));
      const members = own.map((one) => ({ ...one, node_id: state.nodeId }));
      if (step === 'commit') {
        const others = elsewhere.map((one) => ({ ...memberOf(part.group_id, ''), ...one }));
        state.groups.set(part.group_id, { attempt, members: [...own, ...others] });
      }
      return { frozen_ms: 5n, members: step === 'prepare' || step === 'commit' ? members : [] };
    },
    async FindGroup({ group_id }) {
      const group = state.groups.get(group_id);
      if (state.runningGroups.has(group_id)) return { state: 'running', attempt: '' };
      return { state: group === undefined ? 'none' : 'exists', attempt: group?.attempt ?? '' };
    },
    async SettleGroupPart() {
      return {};
    },
    async RemoveGroupPart() {
      return {};
    },
  };
  return {
    async *TakeGroupPart(request, { signal }) {
      state.calls.push('TakeGroupPart');
      await state.before('TakeGroupPart');
      for (const id of request.source_volume_ids) volumeOf(state, id);
      const group = state.groups.get(request.group_id);
      const snapshot_ids = group?.members.map(({ snapshot_id }) => snapshot_id) ?? [];
      const attempt = group?.attempt ?? '';
      const live_volume_ids = state.areVolumesLive ? request.source_volume_ids : [];
      parts.set(request.attempt, request);
      yield { exists: group !== undefined, attempt, snapshot_ids, live_volume_ids };
      if (group !== undefined) return;
      await new Promise((resolve) => {
        signal.addEventListener('abort', resolve);
        if (signal.aborted) resolve(undefined);
      });
      state.calls.push('lease ended');
    },
    ...watched(state, advance),
  };
}

/** Records each call, and lets it fail before or after its effect. */
function watched<T extends object>(state: State, methods: T): T {
  const entries = Object.entries(methods).map(([rpc, method]) => [
    rpc,
    async (request: object, call: object): Promise<unknown> => {
      const step = 'step' in request ? String(request.step) : rpc;
      state.calls.push(step);
      await state.before(step);
      const mishap = state.mishap(step);
      const lost = new StatusError(status.UNAVAILABLE, 'a random failure');
      if (mishap === 'fail before') throw lost;
      const response = await (method as (...args: object[]) => Promise<unknown>)(request, call);
      if (mishap === 'fail after') throw lost;
      return response;
    },
  ]);
  // The methods keep their names and types.
  return Object.fromEntries(entries) as T;
}

function found<T>(entries: ReadonlyMap<string, T>, kind: string, id: string): T {
  const entry = entries.get(id);
  if (entry === undefined) throw new VolumeError('not-found', `${kind} '${id}' does not exist`);
  return entry;
}

function volumeOf(state: State, id: string): Volume {
  if (!state.hello.foreign_ids.includes(id))
    requireOwnId(id, { nodeTag: state.tag, kind: 'volume' });
  return found(state.volumes, 'volume', id);
}

function controllerOf(state: State): Implementation<'csi.v1.Controller'> {
  const topology = { segments: state.hello.segments };
  const { volumes } = state;
  return {
    ...snapshotsOf(state),
    async ControllerGetCapabilities() {
      return { capabilities: [] };
    },
    async CreateVolume({ name, capacity_range, volume_content_source: source }) {
      const id = volumeIdFor(name, state.tag);
      const known = volumes.get(id);
      if (known !== undefined) return { volume: known };
      const sourceId = source?.snapshot?.snapshot_id ?? source?.volume?.volume_id ?? '';
      const sourceTag = otherNodeTagIn(sourceId, state.tag);
      const isOffered = state.offers.delete(sourceId);
      if (sourceTag !== undefined && !isOffered && !state.hello.foreign_ids.includes(sourceId))
        throw new VolumeError('no-space', `its source is on the node with tag ${sourceTag}`);
      if (state.room <= 0) throw new VolumeError('no-space', `no room on ${state.nodeId}`);
      state.room -= 1;
      const volume: Volume = {
        volume_id: id,
        capacity_bytes: capacity_range?.required_bytes ?? 1n,
        volume_context: { pool: 'default' },
        content_source: null,
        accessible_topology: [topology],
      };
      volumes.set(id, volume);
      return { volume };
    },
    async DeleteVolume({ volume_id }) {
      volumes.delete(volume_id);
      return {};
    },
    async ValidateVolumeCapabilities(request) {
      volumeOf(state, request.volume_id);
      return { confirmed: null, message: `asked on ${state.nodeId}` };
    },
    async ControllerGetVolume({ volume_id }) {
      return { volume: volumeOf(state, volume_id), status: { published_node_ids: [] } };
    },
    async ControllerExpandVolume({ volume_id, capacity_range }) {
      volumeOf(state, volume_id);
      return {
        capacity_bytes: capacity_range?.required_bytes ?? 1n,
        node_expansion_required: true,
      };
    },
    async ControllerModifyVolume({ volume_id }) {
      volumeOf(state, volume_id);
      return {};
    },
    async ControllerGetVolumeHealth({ volume_id }) {
      volumeOf(state, volume_id);
      return { volume_health: { volume_id, health_statuses: [] } };
    },
    async ControllerListVolumeHealth() {
      return { entries: [], next_token: '' };
    },
    async ControllerPublishVolume() {
      return { publish_context: {} };
    },
    async ControllerUnpublishVolume() {
      return {};
    },
    async GetCapacity() {
      return {
        available_capacity: BigInt(state.room),
        maximum_volume_size: { value: BigInt(state.room) },
        minimum_volume_size: { value: 1n },
      };
    },
    async ListVolumes({ max_entries, starting_token }) {
      const page = pageOf([...volumes.values()].sort(byId), {
        maxEntries: max_entries,
        startingToken: starting_token,
        idOf: ({ volume_id }) => volume_id,
      });
      const entries = page.entries.map((volume) => ({ volume, status: null }));
      return { entries, next_token: page.nextToken };
    },
  };
}

function snapshotsOf(state: State): Implementation<'csi.v1.Controller'> {
  const { snapshots } = state;
  return {
    async CreateSnapshot({ name, source_volume_id }) {
      volumeOf(state, source_volume_id);
      const snapshot = snapshotMessage(state, { name, source_volume_id, group: '' });
      snapshots.set(snapshot.snapshot_id, snapshot);
      return { snapshot };
    },
    async DeleteSnapshot({ snapshot_id }) {
      snapshots.delete(snapshot_id);
      return {};
    },
    async GetSnapshot({ snapshot_id }) {
      return { snapshot: found(snapshots, 'snapshot', snapshot_id) };
    },
    async ListSnapshots({ snapshot_id, source_volume_id, max_entries, starting_token }) {
      const matching = [...snapshots.values()].filter(
        (one) =>
          (snapshot_id === '' || one.snapshot_id === snapshot_id) &&
          (source_volume_id === '' || one.source_volume_id === source_volume_id),
      );
      const page = pageOf(
        matching.sort((a, b) => (a.snapshot_id < b.snapshot_id ? -1 : 1)),
        {
          maxEntries: max_entries,
          startingToken: starting_token,
          idOf: (one) => one.snapshot_id,
        },
      );
      return {
        entries: page.entries.map((snapshot) => ({ snapshot })),
        next_token: page.nextToken,
      };
    },
  };
}

function groupControllerOf(state: State): Implementation<'csi.v1.GroupController'> {
  const { groups } = state;
  const message = (id: string, snapshots: readonly Snapshot[]) => ({
    group_snapshot: {
      group_snapshot_id: id,
      snapshots,
      creation_time: { seconds: 1n, nanos: 0 },
      ready_to_use: true,
    },
  });
  return {
    async GroupControllerGetCapabilities() {
      return { capabilities: [] };
    },
    async CreateVolumeGroupSnapshot({ name, source_volume_ids }) {
      const id = groupIdFor(name, state.tag);
      const members = source_volume_ids.map((source_volume_id, index) => {
        volumeOf(state, source_volume_id);
        return snapshotMessage(state, { name: `${name}-${index}`, source_volume_id, group: id });
      });
      groups.set(id, { attempt: '', members });
      return message(id, members);
    },
    async DeleteVolumeGroupSnapshot({ group_snapshot_id }) {
      groups.delete(group_snapshot_id);
      return {};
    },
    async GetVolumeGroupSnapshot({ group_snapshot_id: id }) {
      return message(id, found(groups, 'group snapshot', id).members);
    },
  };
}

function metadataOf(state: State): Implementation<'csi.v1.SnapshotMetadata'> {
  const head = {
    block_metadata_type: 'VARIABLE_LENGTH',
    volume_capacity_bytes: 1n << 30n,
  } as const;
  const range = (index: number) => ({ byte_offset: BigInt(index) * 4096n, size_bytes: 4096n });
  const stream = async function* (rpc: string, id: string) {
    state.calls.push(rpc);
    found(state.snapshots, 'snapshot', id);
    try {
      for (let index = 0; index < 1_000; index += 1) {
        await state.before(rpc);
        // A message of 100 ranges, so that a reader who stops fills the buffers.
        const block_metadata = Array.from({ length: 100 }, (_, n) => range(index * 100 + n));
        yield { ...head, block_metadata };
      }
      state.calls.push(`${rpc} complete`);
    } finally {
      state.calls.push(`${rpc} ended`);
    }
  };
  return {
    GetMetadataAllocated: ({ snapshot_id }) => stream('GetMetadataAllocated', snapshot_id),
    GetMetadataDelta: ({ target_snapshot_id }) => stream('GetMetadataDelta', target_snapshot_id),
  };
}

function byId(a: Volume, b: Volume): number {
  return a.volume_id < b.volume_id ? -1 : 1;
}

function snapshotMessage(
  state: State,
  options: { readonly name: string; readonly source_volume_id: string; readonly group: string },
): Snapshot {
  return {
    size_bytes: 1n,
    snapshot_id: snapshotIdFor(options.name, state.tag),
    source_volume_id: options.source_volume_id,
    creation_time: { seconds: 1n, nanos: 0 },
    ready_to_use: state.isSnapshotReady,
    group_snapshot_id: options.group,
    accessible_topology: [{ segments: state.hello.segments }],
  };
}

/** A listener whose connections can be hung and cut. */
async function openGate(onConnection: (socket: Socket) => void, tls: TlsOptions | undefined) {
  const sockets = new Set<Socket>();
  let isHung = false;
  // HTTP/2 reads from the handle of a socket, which cannot be paused, so the gate forwards between two connections.
  const inner = await listening(
    tls === undefined ? createServer(onConnection) : createTlsServer(tls, onConnection),
  );
  const { connect } = await import('node:net');
  const accept = (outside: Socket): void => {
    const inside = connect(portOf(inner), '127.0.0.1');
    for (const [from, to] of [
      [outside, inside],
      [inside, outside],
    ] as const) {
      sockets.add(from);
      from.on('error', () => undefined);
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      from.on('data', (chunk: Buffer) => {
        to.write(chunk);
      });
      if (isHung) from.pause();
    }
  };
  let outer: NetServer | undefined = await listening(createServer(accept));
  const port = portOf(outer);
  const destroyAll = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  const closed = async (server: NetServer): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => {
        resolve();
      });
      destroyAll();
    });
  return {
    port,
    hang: () => {
      isHung = true;
      for (const socket of sockets) socket.pause();
    },
    cut: async () => {
      const server = outer;
      outer = undefined;
      if (server !== undefined) await closed(server);
      inner.unref();
    },
    restore: async () => {
      isHung = false;
      destroyAll();
      outer ??= await listening(createServer(accept), port);
    },
  };
}

async function listening(server: NetServer, port = 0): Promise<NetServer> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  server.unref();
  return server;
}

function portOf(server: NetServer): number {
  const address = server.address();
  if (typeof address !== 'object' || address === null)
    throw new Error('the server is not listening');
  return address.port;
}
