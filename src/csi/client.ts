/** A typed client for the services of csi-proto/ over a unix socket, for the command line, benchmarks and tests. */
import { once } from 'node:events';
import {
  type CallOptions,
  Client as Channel,
  type ClientWritableStream,
  credentials,
  Metadata,
} from '@grpc/grpc-js';
import { serviceDefinition } from './codec.ts';
import type { ClientStream, ServerStream, Unary } from './rpc-kinds.ts';
import type { MethodName, Partially, ServiceName, Services } from './rpc-types.ts';

interface ClientCallOptions {
  /** When it is aborted, the call fails with CANCELLED. */
  readonly signal?: AbortSignal;
  /** Time limit, after which the call fails with DEADLINE_EXCEEDED. By default there is none. */
  readonly timeoutMs?: number;
}

type ClientMethod<M> =
  M extends Unary<infer Q, infer S>
    ? (request: Partially<Q>, options?: ClientCallOptions) => Promise<S>
    : M extends ServerStream<infer Q, infer S>
      ? (request: Partially<Q>, options?: ClientCallOptions) => AsyncIterableIterator<S>
      : M extends ClientStream<infer Q, infer S>
        ? (requests: AsyncIterable<Partially<Q>>, options?: ClientCallOptions) => Promise<S>
        : never;

/**
 * One method per RPC, with the name of the RPC. A unary RPC returns a promise. An RPC that streams responses returns an
 * iterator, which starts the call at the first read and cancels it when the iterator is closed. An RPC that streams requests
 * reads them from an iterator as fast as the server accepts them, and cancels the call if the iterator fails. All fail with
 * grpc-js's ServiceError (`code`, `details`).
 */
export type Client<N extends ServiceName> = {
  readonly [M in MethodName<N>]: ClientMethod<Services[N][M]>;
} & {
  /** Closes the connection; running calls fail with CANCELLED or UNAVAILABLE. */
  readonly close: () => void;
};

/** Larger than any page of volumes, even without max_entries. */
const maxMessageBytes = 256 * 1024 * 1024;

/**
 * Creates a client, which connects at the first call. `address` is a gRPC target: `unix:///run/loopcsi/csi.sock`. CSI's size
 * limits are checked by the server only.
 */
export function makeClient<N extends ServiceName>(name: N, address: string): Client<N> {
  const channel = new Channel(address, credentials.createInsecure(), {
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
  });
  return makeClientOn(name, channel);
}

/** Creates a client for one service of a channel, which the caller made; several services can share the channel. */
export function makeClientOn<N extends ServiceName>(name: N, channel: Channel): Client<N> {
  const methods = Object.entries<Definition>(serviceDefinition(name)).map(([rpc, definition]) => [
    rpc,
    callOf(channel, definition),
  ]);
  const close = (): void => {
    channel.close();
  };
  // The keys, requests and responses come from the same proto as Client<N>.
  return Object.fromEntries([...methods, ['close', close]]) as Client<N>;
}

interface Definition {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestSerialize: (message: object) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => object;
}

function callOf(channel: Channel, definition: Definition) {
  if (definition.requestStream) return requestStreamCall(channel, definition);
  return definition.responseStream
    ? streamCall(channel, definition)
    : unaryCall(channel, definition);
}

function callOptions(options: ClientCallOptions): CallOptions {
  return options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs };
}

/** Cancels `call` when the signal is aborted. Returns the function that removes the listener. */
function cancelOn(signal: AbortSignal | undefined, call: { cancel(): void }): () => void {
  if (signal === undefined) return () => undefined;
  const cancel = (): void => {
    call.cancel();
  };
  if (signal.aborted) cancel();
  else signal.addEventListener('abort', cancel, { once: true });
  return () => {
    signal.removeEventListener('abort', cancel);
  };
}

function unaryCall(channel: Channel, { path, requestSerialize, responseDeserialize }: Definition) {
  return async (request: object, options: ClientCallOptions = {}): Promise<object> => {
    let removeListener: (() => void) | undefined;
    try {
      return await new Promise<object>((resolve, reject) => {
        const call = channel.makeUnaryRequest(
          path,
          requestSerialize,
          responseDeserialize,
          request,
          new Metadata(),
          callOptions(options),
          (error, response) => {
            if (error !== null) reject(error);
            else if (response === undefined) reject(new Error(`${path} returned no response`));
            else resolve(response);
          },
        );
        removeListener = cancelOn(options.signal, call);
      });
    } finally {
      removeListener?.();
    }
  };
}

function requestStreamCall(
  channel: Channel,
  { path, requestSerialize, responseDeserialize }: Definition,
) {
  return async (
    requests: AsyncIterable<object>,
    options: ClientCallOptions = {},
  ): Promise<object> => {
    const ended = new AbortController();
    let removeListener: (() => void) | undefined;
    try {
      return await new Promise<object>((resolve, reject) => {
        const call = channel.makeClientStreamRequest(
          path,
          requestSerialize,
          responseDeserialize,
          new Metadata(),
          callOptions(options),
          (error, response) => {
            ended.abort();
            if (error !== null) reject(error);
            else if (response === undefined) reject(new Error(`${path} returned no response`));
            else resolve(response);
          },
        );
        removeListener = cancelOn(options.signal, call);
        writeAll(call, requests, ended.signal).catch((error: unknown) => {
          reject(error instanceof Error ? error : new Error(String(error)));
          call.cancel();
        });
      });
    } finally {
      removeListener?.();
    }
  };
}

/** Writes all requests, and stops when the call has ended. */
async function writeAll(
  call: ClientWritableStream<object>,
  requests: AsyncIterable<object>,
  ended: AbortSignal,
): Promise<void> {
  for await (const request of requests) {
    if (ended.aborted) return;
    if (!call.write(request)) await once(call, 'drain', { signal: ended }).catch(() => undefined);
  }
  call.end();
}

function streamCall(channel: Channel, { path, requestSerialize, responseDeserialize }: Definition) {
  return async function* (
    request: object,
    options: ClientCallOptions = {},
  ): AsyncIterableIterator<object> {
    const call = channel.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      new Metadata(),
      callOptions(options),
    );
    const removeListener = cancelOn(options.signal, call);
    try {
      for await (const message of call as AsyncIterable<object>) yield message;
    } finally {
      removeListener();
      // If the reader closes the iterator early, grpc-js emits the error CANCELLED, which would terminate the process without
      // a listener.
      call.on('error', () => undefined);
      call.cancel();
    }
  };
}
