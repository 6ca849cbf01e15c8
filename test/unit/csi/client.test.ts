import { once } from 'node:events';
import type { ServiceError } from '@grpc/grpc-js';
import { credentials, Client as RawClient, Server, status } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { type Client, makeClient } from '../../../src/csi/client.ts';
import { serviceDefinition } from '../../../src/csi/codec.ts';
import type { Handlers, ServiceName } from '../../../src/csi/rpc-types.ts';
import { listenOnOwnSocket } from '../../helpers/listen.ts';

/** Serves one service on its own socket until the test ends. */
async function serve<N extends ServiceName>(
  t: ExecutionContext,
  name: N,
  handlers: Handlers<N>,
): Promise<string> {
  const server = new Server();
  server.addService(serviceDefinition(name), handlers);
  return `unix://${await listenOnOwnSocket(t, server)}`;
}

function connect<N extends ServiceName>(t: ExecutionContext, name: N, address: string): Client<N> {
  const client = makeClient(name, address);
  t.teardown(client.close);
  return client;
}

const identity: Handlers<'csi.v1.Identity'> = {
  GetPluginInfo: (_call, callback) => {
    callback(null, {
      name: 'loopcsi.example',
      vendor_version: '1',
      manifest: { commit: 'c0ffee' },
    });
  },
  GetPluginCapabilities: (_call, callback) => {
    callback({ code: status.ABORTED, details: 'an operation on volume v1 is in progress' });
  },
  Probe: () => undefined,
};

async function code(promise: Promise<unknown>): Promise<number | undefined> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    return (error as ServiceError).code;
  }
}

test('a unary call returns a promise of the decoded response', async (t) => {
  const client = connect(t, 'csi.v1.Identity', await serve(t, 'csi.v1.Identity', identity));
  t.deepEqual(await client.GetPluginInfo({}), {
    name: 'loopcsi.example',
    vendor_version: '1',
    manifest: { commit: 'c0ffee' },
  });
});

test('a failed call rejects with code and details', async (t) => {
  const client = connect(t, 'csi.v1.Identity', await serve(t, 'csi.v1.Identity', identity));
  const error = await t.throwsAsync<ServiceError>(client.GetPluginCapabilities({}));
  t.is(error?.code, status.ABORTED);
  t.is(error?.details, 'an operation on volume v1 is in progress');
});

test('a deadline and a signal end a call', async (t) => {
  const client = connect(t, 'csi.v1.Identity', await serve(t, 'csi.v1.Identity', identity));
  t.is(await code(client.Probe({}, { timeoutMs: 20 })), status.DEADLINE_EXCEEDED);
  t.is(await code(client.Probe({}, { signal: AbortSignal.abort() })), status.CANCELLED);
  const abort = new AbortController();
  const pending = code(client.Probe({}, { signal: abort.signal }));
  abort.abort();
  t.is(await pending, status.CANCELLED);
});

test('a field that a request omits arrives as its default', async (t) => {
  const requests: unknown[] = [];
  const address = await serve(t, 'loopcsi.v1.Admin', {
    ...refuseAll,
    InitPool: (call, callback) => {
      requests.push(call.request);
      callback(null, { pool: null, existed: false });
    },
  });
  const client = connect(t, 'loopcsi.v1.Admin', address);
  t.deepEqual(await client.InitPool({ name: 'default', embedded_size_bytes: 2n ** 40n }), {
    pool: null,
    existed: false,
  });
  t.deepEqual(requests, [
    { name: 'default', path: '', embedded_size_bytes: 2n ** 40n, force: false },
  ]);
});

const refuse = (_call: unknown, callback: (error: { code: status }) => void): void => {
  callback({ code: status.UNIMPLEMENTED });
};
const refuseAll: Handlers<'loopcsi.v1.Admin'> = {
  ListPools: refuse,
  InitPool: refuse,
  AdoptPool: refuse,
  ForgetPool: refuse,
  RecoverPool: refuse,
  GrowPool: refuse,
  ListVolumes: refuse,
  GetVolume: refuse,
  MountVolume: refuse,
  UnmountVolume: refuse,
  ExpandVolume: refuse,
  TrimVolume: refuse,
  ImportVolume: refuse,
  ImportStream: refuse,
  ExportImage: (call) => {
    call.emit('error', { code: status.UNIMPLEMENTED });
  },
  ListSnapshots: refuse,
  GetSnapshot: refuse,
  ListGroupSnapshots: refuse,
  MeasureVolumes: refuse,
  GetProgress: refuse,
  ListCopies: refuse,
  WatchSnapshot: (call) => {
    call.emit('error', { code: status.UNIMPLEMENTED });
  },
  ListLeftovers: refuse,
  RemoveLeftovers: refuse,
  Doctor: refuse,
};

const metadata = (
  stream: Handlers<'csi.v1.SnapshotMetadata'>['GetMetadataDelta'],
): Handlers<'csi.v1.SnapshotMetadata'> => ({
  GetMetadataAllocated: (call) => {
    call.emit('error', { code: status.OUT_OF_RANGE, details: 'starts beyond the end' });
  },
  GetMetadataDelta: stream,
});

function block(offset: bigint) {
  return {
    block_metadata_type: 'VARIABLE_LENGTH',
    volume_capacity_bytes: 2n ** 40n,
    block_metadata: [{ byte_offset: offset, size_bytes: 4096n }],
  } as const;
}

test('a stream is read to its end, in order', async (t) => {
  const handlers = metadata((call) => {
    for (const offset of [0n, 4096n, 2n ** 39n]) call.write(block(offset));
    call.end();
  });
  const client = connect(
    t,
    'csi.v1.SnapshotMetadata',
    await serve(t, 'csi.v1.SnapshotMetadata', handlers),
  );
  const offsets: (bigint | undefined)[] = [];
  for await (const message of client.GetMetadataDelta({ base_snapshot_id: 'a' })) {
    offsets.push(message.block_metadata[0]?.byte_offset);
  }
  t.deepEqual(offsets, [0n, 4096n, 2n ** 39n]);
});

test('a stream that fails throws where it is read', async (t) => {
  const client = connect(
    t,
    'csi.v1.SnapshotMetadata',
    await serve(
      t,
      'csi.v1.SnapshotMetadata',
      metadata(() => undefined),
    ),
  );
  const error = await t.throwsAsync<ServiceError>(
    client.GetMetadataAllocated({ snapshot_id: 's' }).next(),
  );
  t.is(error?.code, status.OUT_OF_RANGE);
});

test('closing a stream early cancels the call on the server', async (t) => {
  let cancelled: Promise<unknown> | undefined;
  const handlers = metadata((call) => {
    cancelled = once(call, 'cancelled');
    call.write(block(0n));
  });
  const client = connect(
    t,
    'csi.v1.SnapshotMetadata',
    await serve(t, 'csi.v1.SnapshotMetadata', handlers),
  );
  for await (const message of client.GetMetadataDelta({})) {
    t.is(message.volume_capacity_bytes, 2n ** 40n);
    break;
  }
  await cancelled;
  t.pass();
});

test('a signal ends a stream', async (t) => {
  const handlers = metadata((call) => {
    call.write(block(0n));
  });
  const client = connect(
    t,
    'csi.v1.SnapshotMetadata',
    await serve(t, 'csi.v1.SnapshotMetadata', handlers),
  );
  const abort = new AbortController();
  const stream = client.GetMetadataDelta({}, { signal: abort.signal });
  t.false((await stream.next()).done);
  abort.abort();
  const error = await t.throwsAsync<ServiceError>(stream.next());
  t.is(error?.code, status.CANCELLED);
});

test('a malformed request is answered INTERNAL, and the server keeps running', async (t) => {
  const address = await serve(t, 'csi.v1.Identity', identity);
  const raw = new RawClient(address, credentials.createInsecure());
  t.teardown(() => {
    raw.close();
  });
  const answer = new Promise((_resolve, reject) => {
    raw.makeUnaryRequest(
      '/csi.v1.Identity/GetPluginInfo',
      () => Buffer.from([10, 255]),
      String,
      '',
      (error) => {
        reject(error ?? new Error('answered'));
      },
    );
  });
  t.is(await code(answer), status.INTERNAL);
  const client = connect(t, 'csi.v1.Identity', address);
  t.is((await client.GetPluginInfo({})).name, 'loopcsi.example');
});

test('the types refuse fields that the proto does not define', (t) => {
  const { Probe, ...rest } = identity;
  // @ts-expect-error A service without one of its calls.
  const short: Handlers<'csi.v1.Identity'> = rest;
  const wrong: Handlers<'csi.v1.Identity'> = {
    ...rest,
    Probe: (_call, callback) => {
      // @ts-expect-error A response with a misspelt field, which the codec would drop silently.
      callback(null, { redy: { value: true } });
    },
  };
  t.false('Probe' in short);
  t.is(typeof wrong.Probe, typeof Probe);
});
