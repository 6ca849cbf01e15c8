/** The services of the three protos as TypeScript sees them: what a front implements and what a client calls. */
import type {
  handleServerStreamingCall,
  handleUnaryCall,
  ServerUnaryCall,
  ServerWritableStream,
} from '@grpc/grpc-js';
import type { LoopcsiServices } from './admin-types.ts';
import type { RegistrationServices } from './registration-types.ts';
import type { ServerStream, Unary } from './rpc-kinds.ts';
import type { CsiServices } from './types.ts';

/** Every service of the three protos, by its full name: `csi.v1.Controller`, `loopcsi.v1.Admin`. */
export interface Services extends CsiServices, LoopcsiServices, RegistrationServices {}

export type ServiceName = keyof Services;

/** The RPC names of a service, spelt as in the proto. */
export type MethodName<N extends ServiceName> = keyof Services[N] & string;

/** What grpc-js takes as the implementation of one call. */
export type Handler<M> =
  M extends Unary<infer Q, infer S>
    ? handleUnaryCall<Q, S>
    : M extends ServerStream<infer Q, infer S>
      ? handleServerStreamingCall<Q, S>
      : never;

/** The implementation of a whole service: each of its calls, none besides. */
export type Handlers<N extends ServiceName> = {
  readonly [M in MethodName<N>]: Handler<Services[N][M]>;
};

/** grpc-js's call object of a unary method, for code that is generic over methods. */
export type UnaryCall<M> = M extends Unary<infer Q, infer S> ? ServerUnaryCall<Q, S> : never;

/** grpc-js's call object of a streaming method. */
export type StreamCall<M> =
  M extends ServerStream<infer Q, infer S> ? ServerWritableStream<Q, S> : never;

/**
 * A message in which anything may be left out, at every depth: what is absent has its proto3 default on the wire. For
 * requests; responses are written whole, so that a forgotten field does not compile.
 */
export type Partially<T> = T extends bigint | boolean | number | string | Uint8Array | null
  ? T
  : T extends readonly (infer E)[]
    ? readonly Partially<E>[]
    : { readonly [K in keyof T]?: Partially<T[K]> | undefined };
