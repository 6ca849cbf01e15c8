/** Creates grpc-js handlers from the methods of a service, which are plain asynchronous functions. */
import { lazily, methodsOf } from '../csi/codec.ts';
import { rpcRedactors } from '../csi/redact.ts';
import type { ClientStream, ServerStream, Unary } from '../csi/rpc-kinds.ts';
import type { Handlers, MethodName, ServiceName, Services } from '../csi/rpc-types.ts';
import { VolumeError } from '../errors.ts';
import type { LogClass } from './advertised.ts';
import {
  type Method,
  makeRequestStreamHandler,
  makeStreamHandler,
  makeUnaryHandler,
  type RpcCall,
  type ServerHooks,
} from './call.ts';
import { limitCheckFor } from './request-limits.ts';

type Implemented<M> =
  M extends Unary<infer Q, infer S>
    ? (request: Q, call: RpcCall) => Promise<S>
    : M extends ServerStream<infer Q, infer S>
      ? (request: Q, call: RpcCall) => AsyncIterable<S>
      : M extends ClientStream<infer Q, infer S>
        ? (requests: AsyncIterable<Q>, call: RpcCall) => Promise<S>
        : never;

/** The methods of a service that this driver implements. */
export type Implementation<N extends ServiceName> = {
  readonly [M in MethodName<N>]?: Implemented<Services[N][M]>;
};

/** How the methods of a service are served. */
interface ServiceOptions {
  /** Log class of each call and whether it is offered. A call without an entry is not offered. */
  readonly calls: ReadonlyMap<string, { readonly logClass: LogClass; readonly offered: boolean }>;
  /** Whether CSI's size limits are checked; they apply only to csi.v1. */
  readonly checksSizeLimits: boolean;
}

type AnyImplementation = Readonly<
  Record<string, ((request: object, call: RpcCall) => unknown) | undefined>
>;

/**
 * Creates a handler for every method of the proto. A method that is not offered returns UNIMPLEMENTED, never UNKNOWN. Throws
 * if an offered method is not implemented.
 */
export function makeHandlers<N extends ServiceName>(
  name: N,
  implementation: Implementation<N>,
  hooks: ServerHooks,
  { calls, checksSizeLimits }: ServiceOptions,
): Handlers<N> {
  // Each kind of function is called below with what its RPC receives.
  const methods = implementation as unknown as AnyImplementation;
  const entries = methodsOf(name).map(({ name: rpc, requestType, ...shape }) => {
    const { logClass = 'read', offered = false } = calls.get(rpc) ?? {};
    const implemented = methods[rpc];
    if (offered && implemented === undefined)
      throw new Error(`${name} offers ${rpc} without implementing it`);
    const handle = offered && implemented !== undefined ? implemented : notOffered(rpc);
    // The cast is safe, because the names come from the same proto as the type. Both functions are created at the first call,
    // so that they do not delay the start.
    const redactors = lazily(() => rpcRedactors(name, rpc as MethodName<N>));
    const limits = lazily(() => (checksSizeLimits ? limitCheckFor(requestType) : () => undefined));
    const method: Method = {
      service: name,
      rpc,
      logClass,
      checkLimits: (request) => {
        limits()(request);
      },
      redactRequest: (message) => redactors().request(message),
      redactResponse: (message) => redactors().response(message),
    };
    // Implementation<N> maps each name to its kind of function, but the type checker loses this relation in a loop over
    // names.
    const handler = shape.requestStream
      ? makeRequestStreamHandler(method, hooks, async (requests, call) => handle(requests, call))
      : shape.responseStream
        ? makeStreamHandler(method, hooks, streaming(handle))
        : makeUnaryHandler(method, hooks, async (request: object, call) => handle(request, call));
    return [rpc, handler] as const;
  });
  return Object.fromEntries(entries) as unknown as Handlers<N>;
}

function notOffered(rpc: string): () => never {
  return () => {
    throw new VolumeError(
      'unsupported',
      `${rpc} is not offered; the capability calls list the offered calls, and 'loopcsi serve --help' lists the options that change them`,
    );
  };
}

/** A generator, so that the wrapper also catches an error that `handle` throws synchronously. */
function streaming(handle: (request: object, call: RpcCall) => unknown) {
  return async function* (request: object, call: RpcCall): AsyncIterable<unknown> {
    yield* handle(request, call) as AsyncIterable<unknown>;
  };
}
