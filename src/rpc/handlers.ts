/** From a service's methods as plain asynchronous functions to what grpc-js takes. */

import { methodsOf } from '../csi/codec.ts';
import { rpcRedactors } from '../csi/redact.ts';
import type { ServerStream, Unary } from '../csi/rpc-kinds.ts';
import type { Handlers, MethodName, ServiceName, Services } from '../csi/rpc-types.ts';
import { VolumeError } from '../errors.ts';
import type { Call } from '../volumes/operations.ts';
import type { Weight } from './advertised.ts';
import { type Edge, type Method, serverStream, unary } from './call.ts';
import { limitsOf } from './request-limits.ts';

type Implemented<M> =
  M extends Unary<infer Q, infer S>
    ? (request: Q, call: Call) => Promise<S>
    : M extends ServerStream<infer Q, infer S>
      ? (request: Q, call: Call) => AsyncIterable<S>
      : never;

/** The methods of a service that this driver has. */
export type Implementation<N extends ServiceName> = {
  readonly [M in MethodName<N>]?: Implemented<Services[N][M]>;
};

/** How the methods of a service are to be served. */
export interface ServiceOptions {
  /** What each call weighs and whether it is offered; a call that is not listed is not offered. */
  readonly calls: ReadonlyMap<string, { readonly weight: Weight; readonly offered: boolean }>;
  /** CSI's size limits hold for csi.v1 only. */
  readonly limited: boolean;
}

type AnyImplementation = Readonly<
  Record<string, ((request: object, call: Call) => unknown) | undefined>
>;

/**
 * Handlers for every method that the proto has: what is not offered answers UNIMPLEMENTED, never UNKNOWN. Throws when an
 * offered method is missing.
 */
export function handlersOf<N extends ServiceName>(
  name: N,
  implementation: Implementation<N>,
  edge: Edge,
  { calls, limited }: ServiceOptions,
): Handlers<N> {
  const methods: AnyImplementation = implementation;
  const entries = methodsOf(name).map(({ name: rpc, requestType, responseStream }) => {
    const { weight = 'read', offered = false } = calls.get(rpc) ?? {};
    const implemented = methods[rpc];
    if (offered && implemented === undefined) throw new Error(`${name} offers ${rpc} without it`);
    const handle = offered && implemented !== undefined ? implemented : notOffered(rpc);
    // The loop's names come from the same proto as the type's.
    const redactors = lazily(() => rpcRedactors(name, rpc as MethodName<N>));
    const limits = lazily(() => (limited ? limitsOf(requestType) : () => undefined));
    const method: Method = {
      service: name,
      rpc,
      weight,
      check: (request) => {
        limits()(request);
      },
      redactRequest: (message) => redactors().request(message),
      redactResponse: (message) => redactors().response(message),
    };
    // Implementation<N> ties each name to its kind of function, which a loop over names cannot see.
    const handler = responseStream
      ? serverStream(method, edge, streaming(handle))
      : unary(method, edge, async (request: object, call) => handle(request, call));
    return [rpc, handler] as const;
  });
  return Object.fromEntries(entries) as unknown as Handlers<N>;
}

function notOffered(rpc: string): () => never {
  return () => {
    throw new VolumeError(
      'unsupported',
      `${rpc} is not offered; the capability calls say what is, and loopcsi serve --help how it is chosen`,
    );
  };
}

/** A generator, so that what `handle` throws at once is thrown inside the wrapper too. */
function streaming(handle: (request: object, call: Call) => unknown) {
  return async function* (request: object, call: Call): AsyncIterable<unknown> {
    yield* handle(request, call) as AsyncIterable<unknown>;
  };
}

/** Made at first use: a start should not pay for calls that never come. */
function lazily<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
