import { Server } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { makeClient } from '../../../src/csi/client.ts';
import { serviceDefinition } from '../../../src/csi/codec.ts';
import { VolumeError } from '../../../src/errors.ts';
import { type AdminContext, adminService } from '../../../src/rpc/admin.ts';
import { limitCalls } from '../../../src/rpc/call.ts';
import { type Implementation, makeHandlers } from '../../../src/rpc/handlers.ts';
import { codeOf, memoryLog } from '../../helpers/csi-server.ts';
import { listenOnOwnSocket } from '../../helpers/listen.ts';

type Metadata = Implementation<'csi.v1.SnapshotMetadata'>;
const calls = new Map([['GetMetadataAllocated', { logClass: 'read', offered: true } as const]]);

/** Serves csi.v1.SnapshotMetadata with the given methods. */
async function serveStream(t: ExecutionContext, implementation: Metadata, limit = 10) {
  const { log } = memoryLog();
  const hooks = { log, callEnded: () => undefined, admit: limitCalls(limit), fieldsOf: () => ({}) };
  const handlers = makeHandlers('csi.v1.SnapshotMetadata', implementation, hooks, {
    calls,
    checksSizeLimits: true,
  });
  const server = new Server();
  server.addService(serviceDefinition('csi.v1.SnapshotMetadata'), handlers);
  const client = makeClient(
    'csi.v1.SnapshotMetadata',
    `unix://${await listenOnOwnSocket(t, server)}`,
  );
  t.teardown(() => client.close());
  return client;
}

const message = (offset: bigint) => ({
  block_metadata_type: 'VARIABLE_LENGTH' as const,
  volume_capacity_bytes: 1n << 40n,
  block_metadata: [{ byte_offset: offset, size_bytes: 1n }],
});

async function countOf(stream: AsyncIterable<unknown>): Promise<number> {
  let count = 0;
  for await (const _message of stream) count += 1;
  return count;
}

test('Admin implements every call that it offers', (t) => {
  const hooks = {
    log: memoryLog().log,
    callEnded: () => undefined,
    admit: limitCalls(1),
    fieldsOf: () => ({}),
  };
  const context = { administration: {}, volumes: {} } as unknown as AdminContext;
  t.notThrows(() => adminService(context, hooks));
});

test('a stream ends after its last message', async (t) => {
  const client = await serveStream(t, {
    async *GetMetadataAllocated() {
      for (let offset = 0n; offset < 100n; offset += 1n) yield message(offset);
    },
  });
  t.is(await countOf(client.GetMetadataAllocated({ snapshot_id: 's' })), 100);
});

test('a stream that fails half-way ends with the error', async (t) => {
  const client = await serveStream(t, {
    async *GetMetadataAllocated() {
      yield message(0n);
      throw new VolumeError('unavailable', 'the disk of the pool is not mounted');
    },
  });
  const seen = countOf(client.GetMetadataAllocated({ snapshot_id: 's' }));
  t.is(await codeOf(seen), 'UNAVAILABLE');
});

test('size limits apply to streams, and a call that is not offered is UNIMPLEMENTED', async (t) => {
  const client = await serveStream(t, {
    async *GetMetadataAllocated() {
      yield message(0n);
    },
  });
  const long = countOf(client.GetMetadataAllocated({ snapshot_id: 's'.repeat(129) }));
  t.is(await codeOf(long), 'INVALID_ARGUMENT');
  t.is(await codeOf(countOf(client.GetMetadataDelta({}))), 'UNIMPLEMENTED');
});

test('a slow reader blocks the generator, and disconnecting closes it', async (t) => {
  let produced = 0;
  let hasEnded = (): void => undefined;
  const end = new Promise<void>((resolve) => {
    hasEnded = resolve;
  });
  const wide = {
    ...message(0n),
    block_metadata: Array.from({ length: 5000 }, () => message(1n).block_metadata).flat(),
  };
  const client = await serveStream(t, {
    async *GetMetadataAllocated() {
      try {
        // The limit is only reached if the server does not wait for the reader.
        while (produced < 2_000) {
          produced += 1;
          yield wide;
        }
      } finally {
        hasEnded();
      }
    },
  });
  for await (const _message of client.GetMetadataAllocated({ snapshot_id: 's' })) {
    // Enough time for a generator without backpressure to run far ahead.
    await new Promise((resolve) => {
      setTimeout(resolve, 300);
    });
    break;
  }
  await end;
  t.true(produced < 200, `${produced} messages of 20 KiB were produced, and one was read`);
});

test('a call beyond the limit of running calls is UNAVAILABLE', async (t) => {
  let release = (): void => undefined;
  const blocked = new Promise<void>((resolve) => {
    release = resolve;
  });
  let begun = (): void => undefined;
  const hasBegun = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const client = await serveStream(
    t,
    {
      async *GetMetadataAllocated() {
        begun();
        await blocked;
        yield message(0n);
      },
    },
    1,
  );
  const first = countOf(client.GetMetadataAllocated({ snapshot_id: 's' }));
  await hasBegun;
  t.teardown(release);
  const second = client.GetMetadataAllocated({ snapshot_id: 's' }, { timeoutMs: 20_000 });
  t.is(await codeOf(countOf(second)), 'UNAVAILABLE');
  release();
  t.is(await first, 1);
});
