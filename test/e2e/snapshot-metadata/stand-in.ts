/**
 * Stands in for csi-snapshot-metadata in the end-to-end tests, because no package registry has that sidecar. It serves the same
 * interface with the flags, the service account and the socket that the chart gives the sidecar, and asks the API server the same
 * questions. It is not the sidecar: what it proves is the chart, and the driver behind the controller.
 */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import {
  Server,
  ServerCredentials,
  type ServerWritableStream,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { eventually } from '../../../scripts/command.ts';
import { makeClient } from '../../../src/csi/client.ts';
import { authorize, handleOf, Refusal } from './access.ts';
import {
  type AllocatedRequest,
  type DeltaRequest,
  methods,
  type RangesResponse,
} from './protocol.ts';

const text = { type: 'string' } as const;
const { values: flags } = parseArgs({
  options: {
    'csi-address': text,
    'tls-cert': text,
    'tls-key': text,
    audience: text,
    'max-streaming-duration-min': text,
  },
});
const address = `unix://${flags['csi-address'] ?? ''}`;
const audience = flags.audience ?? '';
const timeoutMs = Number(flags['max-streaming-duration-min']) * 60_000;
if (audience === '' || !(timeoutMs > 0)) throw new Error('a flag is missing');

const identity = makeClient('csi.v1.Identity', address);
const driver = makeClient('csi.v1.SnapshotMetadata', address);
/** The socket appears when the controller has started; if it does not, the kubelet starts this program again. */
const { name: driverName } = await eventually(
  'the driver',
  () => identity.GetPluginInfo({}, { timeoutMs: 10_000 }),
  { timeoutMs: 120_000 },
);

type Call<Q> = ServerWritableStream<Q, RangesResponse>;

/** Authorises the call and forwards the messages of the driver, as fast as the client reads them. */
async function answer<Q extends { readonly security_token: string; readonly namespace: string }>(
  call: Call<Q>,
  open: (request: Q) => Promise<AsyncIterable<RangesResponse>>,
): Promise<void> {
  try {
    const { security_token: token, namespace } = call.request;
    if (token === '' || namespace === '') {
      throw new Refusal(status.INVALID_ARGUMENT, 'security_token and namespace are required');
    }
    await authorize(token, audience, namespace);
    for await (const message of await open(call.request)) {
      if (!call.write(message)) await once(call, 'drain');
    }
    call.end();
  } catch (error) {
    const { code = status.INTERNAL, details = String(error) } = error as Partial<ServiceError>;
    call.emit('error', { code, details });
  }
}

const server = new Server();
server.addService(methods, {
  GetMetadataAllocated: (call: Call<AllocatedRequest>) =>
    void answer(call, async ({ namespace, snapshot_name: name, starting_offset, max_results }) => {
      const snapshot_id = await handleOf(namespace, name, driverName);
      const request = { snapshot_id, starting_offset, max_results };
      return driver.GetMetadataAllocated(request, { timeoutMs });
    }),
  // As in the sidecar, nothing but the driver checks the base, whose handle the client may have from anywhere.
  GetMetadataDelta: (call: Call<DeltaRequest>) =>
    void answer(
      call,
      async ({
        namespace,
        base_snapshot_id,
        target_snapshot_name: name,
        starting_offset,
        max_results,
      }) => {
        const target_snapshot_id = await handleOf(namespace, name, driverName);
        const range = { starting_offset, max_results };
        return driver.GetMetadataDelta(
          { base_snapshot_id, target_snapshot_id, ...range },
          { timeoutMs },
        );
      },
    ),
});
const keys = [
  {
    cert_chain: await readFile(flags['tls-cert'] ?? ''),
    private_key: await readFile(flags['tls-key'] ?? ''),
  },
];
server.bindAsync('0.0.0.0:50051', ServerCredentials.createSsl(null, keys), (error) => {
  if (error !== null) throw error;
  console.log(`stand-in for csi-snapshot-metadata of ${driverName}`);
});
