import type { ExecutionContext } from 'ava';
import test from 'ava';
import { makeClientOn } from '../../../../src/csi/client.ts';
import { VolumeError } from '../../../../src/errors.ts';
import { readPieces } from '../../../../src/rpc/agent/data-client.ts';
import { agentKeepalive } from '../../../../src/rpc/agent/keepalive.ts';
import { remoteSourceAt } from '../../../../src/rpc/agent/source-client.ts';
import { FollowedCredentials, readCredentials } from '../../../../src/tls/credentials.ts';
import type { Volumes } from '../../../../src/volumes/api.ts';
import {
  type End,
  type Piece,
  type SentCopy,
  SourceLostError,
} from '../../../../src/volumes/model.ts';
import { digestWith, noPieces } from '../../../../src/volumes/snapshot/pieces.ts';
import { channelTo, controllerOf, serveFakeAgent } from '../../../helpers/agent.ts';
import { codeOf, memoryLog } from '../../../helpers/csi-server.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';

const copy: SentCopy = { source: { kind: 'snapshot', id: 'snap.0123abcd' }, copyName: 'pvc-1' };
const source = { kind: 'snapshot', id: 'snap.0123abcd', copy_name: 'pvc-1' };
const { signal } = new AbortController();

/** An agent that allows copies, and clients of it in both roles. */
async function served(t: ExecutionContext, volumes: Partial<Volumes> = {}) {
  const agent = await serveFakeAgent(t, { volumes: { allowsTransfers: true, ...volumes } });
  const { port } = agent.agent;
  const { authority, agent: pair } = agent.certificates;
  const channel = channelTo(t, port, { authorities: authority.certificate, pair });
  const controller = controllerOf(t, port, agent.certificates);
  const open = async (addresses = ['127.0.0.1']): Promise<string> =>
    (await controller.agent.OpenSource({ source, peer_addresses: addresses })).ticket;
  const followed = await FollowedCredentials.follow({
    directory: agent.tlsDir,
    driverName: 'loopcsi.io',
    role: 'agent',
    log: memoryLog().log,
  });
  t.teardown(() => {
    followed.close();
  });
  return {
    ...agent,
    controller,
    open,
    sources: makeClientOn('loopcsi.agent.v1.Sources', channel),
    /** The code of a reading, with the fields of its request. */
    readCode: async (ticket: string, fields: { copy?: SentCopy; digest?: Buffer } = {}) => {
      const { copy: wantedCopy = copy, digest = noPieces } = fields;
      const steps = readPieces({
        address: `127.0.0.1:${port}`,
        credentials: await readCredentials({
          ...{ directory: agent.tlsDir, driverName: 'loopcsi.io', role: 'agent' },
        }),
        driverName: 'loopcsi.io',
        ticket,
        wanted: { copy: wantedCopy, state: 's', from: { offset: 0n, digest } },
        keepalive: agentKeepalive,
        signal,
      });
      try {
        return await codeOf(steps.next());
      } finally {
        await steps.return(undefined);
      }
    },
    asController: makeClientOn('loopcsi.agent.v1.Sources', controller.channel),
    asAgent: {
      agent: makeClientOn('loopcsi.agent.v1.Agent', channel),
      identity: makeClientOn('csi.v1.Identity', channel),
      controller: makeClientOn('csi.v1.Controller', channel),
      metadata: makeClientOn('csi.v1.SnapshotMetadata', channel),
    },
    remote: async (ticket: string) =>
      remoteSourceAt(
        { copy, nodeId: 'node-a', address: `127.0.0.1:${port}`, ticket },
        { followed, driverName: 'loopcsi.io' },
      ),
  };
}

test('an agent reads with a ticket, and reaches nothing else', async (t) => {
  const { sources, open, remote, asAgent, calls } = await served(t);
  const ticket = await open();
  t.is(await codeOf(sources.Describe({ ticket, source })), 'OK');
  const other = await remote(ticket);
  const steps: (Piece | End)[] = [];
  for await (const step of other.read('s', { offset: 0n, digest: noPieces }, signal))
    steps.push(step);
  t.deepEqual(steps, [{ sizeBytes: 1n << 30n, digest: noPieces }]);
  t.is(await codeOf(asAgent.agent.Hello({ api_version: 1 })), 'UNIMPLEMENTED');
  t.is(await codeOf(asAgent.agent.OpenSource({ source })), 'UNIMPLEMENTED');
  t.is(await codeOf(asAgent.identity.Probe({})), 'UNIMPLEMENTED');
  t.is(await codeOf(asAgent.controller.DeleteVolume({ volume_id: 'v' })), 'UNIMPLEMENTED');
  t.false(calls.some(({ method }) => method === 'deleteVolume'));
});

test('without a valid ticket, an agent reads nothing', async (t) => {
  const { sources, open, readCode, calls } = await served(t);
  const ticket = await open();
  const elsewhere = await open(['10.0.0.9']);
  const requests = [
    { source },
    { ticket: 'x', source },
    { ticket: elsewhere, source },
    { ticket, source: { ...source, id: 'other.0123abcd' } },
    { ticket, source: { ...source, kind: 'volume' } },
    { ticket, source: { ...source, copy_name: 'pvc-2' } },
  ];
  for (const request of requests) {
    const code = ['x', undefined].includes(request.ticket)
      ? 'UNAUTHENTICATED'
      : 'PERMISSION_DENIED';
    t.is(await codeOf(sources.Describe(request)), code);
    const { kind, id, copy_name } = request.source;
    const asked = { source: { kind, id }, copyName: copy_name } as SentCopy;
    t.is(await readCode(request.ticket ?? '', { copy: asked }), code);
  }
  for (const request of [{ ticket }, { ticket, source: { ...source, kind: 'group' } }])
    t.is(await codeOf(sources.Describe(request)), 'INVALID_ARGUMENT');
  t.is(await readCode(ticket, { digest: Buffer.alloc(0) }), 'INVALID_ARGUMENT', 'no digest');
  t.deepEqual(
    calls.filter(({ method }) => /Source/.test(method)),
    [],
  );
});

test('the controller reads nothing itself', async (t) => {
  const { asController, open } = await served(t);
  const ticket = await open();
  t.is(await codeOf(asController.Describe({ ticket, source })), 'UNIMPLEMENTED');
});

test('an agent that allows no copies opens and offers nothing, and names no addresses', async (t) => {
  const { controller } = await served(t, { allowsTransfers: false });
  const { agent } = controller;
  t.is(await codeOf(agent.OpenSource({ source, peer_addresses: ['127.0.0.1'] })), 'UNIMPLEMENTED');
  const offer = { source, node_id: 'b', address: '127.0.0.1:1', ticket: 'x' };
  t.is(await codeOf(agent.OfferSource(offer)), 'UNIMPLEMENTED');
  t.deepEqual((await agent.Hello({ api_version: 1 })).peer_addresses, []);
});

test('a source that does not exist, a call without addresses, and an offer without a place are refused', async (t) => {
  const { controller } = await served(t, {
    getSnapshot: async (id) => {
      throw new VolumeError('not-found', `snapshot '${id}' does not exist`);
    },
  });
  const { agent } = controller;
  t.is(await codeOf(agent.OpenSource({ source, peer_addresses: ['127.0.0.1'] })), 'NOT_FOUND');
  t.is(await codeOf(agent.OpenSource({ source })), 'INVALID_ARGUMENT');
  t.is(await codeOf(agent.OpenSource({})), 'INVALID_ARGUMENT');
  t.is(await codeOf(agent.OfferSource({ source, node_id: 'b' })), 'INVALID_ARGUMENT');
  t.is(await codeOf(agent.CloseSource({})), 'INVALID_ARGUMENT');
  t.is(await codeOf(agent.CloseSource({ source })), 'OK');
});

function pieceAfter(before: Buffer, offset: bigint, text: string): Piece {
  const data = Buffer.from(text);
  return { offset, data, digest: digestWith(before, { offset, data }) };
}

test('what the one agent reads is what the other one sends', async (t) => {
  const first = pieceAfter(noPieces, 0n, 'a'.repeat(1024 * 1024));
  const second = pieceAfter(first.digest, 1n << 40n, 'b');
  const pieces = [first, second];
  const { digest } = second;
  const end: End = { sizeBytes: 1n << 41n, digest };
  const facts = {
    state: 's',
    kind: 'mount',
    fsType: 'ext4',
    sectorSize: 4096,
    provisioning: 'thick',
    sizeBytes: 1n << 41n,
    allocatedBytes: 5n,
    growthLimit: { factor: 1000n, maxBytes: 1n << 50n },
  } as const;
  const requests: unknown[] = [];
  const { remote, open } = await served(t, {
    describeSource: async () => facts,
    readSource: async function* (_call, request) {
      requests.push(request);
      yield* pieces;
      yield end;
    },
  });
  const other = await remote(await open());
  t.deepEqual(await other.describe(signal, { state: undefined }), facts);
  const steps: (Piece | End)[] = [];
  for await (const step of other.read('s', { offset: 7n, digest }, signal)) steps.push(step);
  t.deepEqual(steps, [...pieces, end]);
  t.deepEqual(requests, [{ copy, state: 's', from: { offset: 7n, digest } }]);
});

test('what the other agent refuses keeps its reason; a lost one is said to be lost', async (t) => {
  const reasons = [
    'not-found',
    'wrong-state',
    'busy',
    'unavailable',
    'internal',
    'no-space',
  ] as const;
  let reason: (typeof reasons)[number] = 'not-found';
  const { remote, open, agent } = await served(t, {
    describeSource: async () => {
      throw new VolumeError(reason, 'that is why');
    },
  });
  const other = await remote(await open());
  for (const expected of reasons) {
    reason = expected;
    t.is(await reasonOf(other.describe(signal, { state: undefined })), expected);
  }
  // Another node may be allowed to, so a scheduler may choose again; once something was received, the call is only repeated.
  const forbidden = await remote(await open(['10.0.0.9']));
  t.is(await reasonOf(forbidden.describe(signal, { state: undefined })), 'no-space');
  // The repeated call brings a new ticket.
  const unknown = await remote('none');
  t.is(await reasonOf(unknown.describe(signal, { state: undefined })), 'unavailable');
  const read = async (): Promise<void> => {
    for await (const _ of forbidden.read('s', { offset: 0n, digest: noPieces }, signal)) t.fail();
  };
  const lost = await t.throwsAsync(read, { instanceOf: SourceLostError });
  t.regex(
    lost?.message ?? '',
    /^snapshot 'snap\.\w+' cannot be read from node 'node-a' \(127.*not for 127/,
  );
  await agent.close();
  await t.throwsAsync(other.describe(signal, { state: undefined }), {
    instanceOf: SourceLostError,
  });
});

test('who cancels a copy gets its own reason', async (t) => {
  const cancelled = new AbortController();
  const { remote, open } = await served(t, {
    describeSource: async () => new Promise(() => undefined),
  });
  const other = await remote(await open());
  const work = other.describe(cancelled.signal, { state: undefined });
  cancelled.abort(new Error('enough'));
  await t.throwsAsync(work, { message: 'enough' });
});
