/** A typed client of any service of csi-proto/ over a unix socket: for the command line, the bench and the tests. */
import { type CallOptions, Client as Channel, credentials, Metadata } from '@grpc/grpc-js';
import { serviceDefinition } from './codec.ts';
import type { ServerStream, Unary } from './rpc-kinds.ts';
import type { MethodName, Partially, ServiceName, Services } from './rpc-types.ts';

export interface ClientCallOptions {
  /** Cancels the call, which then fails with CANCELLED. */
  readonly signal?: AbortSignal;
  /** The call fails with DEADLINE_EXCEEDED after that; without it, it waits for ever. */
  readonly timeoutMs?: number;
}

type ClientMethod<M> =
  M extends Unary<infer Q, infer S>
    ? (request: Partially<Q>, options?: ClientCallOptions) => Promise<S>
    : M extends ServerStream<infer Q, infer S>
      ? (request: Partially<Q>, options?: ClientCallOptions) => AsyncIterableIterator<S>
      : never;

/**
 * Each RPC under its own name. Unary ones answer a promise, streams an iterator that calls when it is first read and
 * cancels when it is left. Both fail with grpc-js's ServiceError (`code`, `details`).
 */
export type Client<N extends ServiceName> = {
  readonly [M in MethodName<N>]: ClientMethod<Services[N][M]>;
} & {
  /** Ends the connection; running calls fail with CANCELLED or UNAVAILABLE. */
  readonly close: () => void;
};

/** Larger than the largest page of volumes that a driver answers when nobody bounds it. */
const maxMessageBytes = 256 * 1024 * 1024;

/**
 * Connects at the first call. `address` is a gRPC target: `unix:///run/loopcsi/csi.sock`. The standard's own size bounds
 * are the server's to check, so nothing is checked here.
 */
export function makeClient<N extends ServiceName>(name: N, address: string): Client<N> {
  const channel = new Channel(address, credentials.createInsecure(), {
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
  });
  const methods = Object.entries<Definition>(serviceDefinition(name)).map(([rpc, definition]) => [
    rpc,
    definition.responseStream ? streamCall(channel, definition) : unaryCall(channel, definition),
  ]);
  const close = (): void => {
    channel.close();
  };
  // Keys, requests and responses come from the same proto as Client<N>.
  return Object.fromEntries([...methods, ['close', close]]) as Client<N>;
}

interface Definition {
  readonly path: string;
  readonly responseStream: boolean;
  readonly requestSerialize: (message: object) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => object;
}

function callOptions(options: ClientCallOptions): CallOptions {
  return options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs };
}

/** Cancels `call` on the signal; answers how to stop listening. */
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
    let release: (() => void) | undefined;
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
            else if (response === undefined) reject(new Error(`${path} answered nothing`));
            else resolve(response);
          },
        );
        release = cancelOn(options.signal, call);
      });
    } finally {
      release?.();
    }
  };
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
    const release = cancelOn(options.signal, call);
    try {
      for await (const message of call as AsyncIterable<object>) yield message;
    } finally {
      release();
      // A reader that leaves early makes grpc-js emit CANCELLED on the stream, which nobody is there to hear.
      call.on('error', () => undefined);
      call.cancel();
    }
  };
}
