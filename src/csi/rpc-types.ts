/** Types of the services of the four protos, for servers and clients. */
import type {
  handleClientStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
} from '@grpc/grpc-js';
import type { LoopcsiServices } from './admin-types.ts';
import type { AgentServices } from './agent-types.ts';
import type { RegistrationServices } from './registration-types.ts';
import type { ClientStream, ServerStream, Unary } from './rpc-kinds.ts';
import type { CsiServices } from './types.ts';

/** Every service of the four protos, by its full name: `csi.v1.Controller`, `loopcsi.v1.Admin`. */
export interface Services extends CsiServices, LoopcsiServices, AgentServices, RegistrationServices {}

export type ServiceName = keyof Services;

/** The RPC names of a service, as in the proto. */
export type MethodName<N extends ServiceName> = keyof Services[N] & string;

/** The grpc-js handler of one RPC. */
type Handler<M> =
  M extends Unary<infer Q, infer S>
    ? handleUnaryCall<Q, S>
    : M extends ServerStream<infer Q, infer S>
      ? handleServerStreamingCall<Q, S>
      : M extends ClientStream<infer Q, infer S>
        ? handleClientStreamingCall<Q, S>
        : never;

/** The grpc-js handlers of a service: exactly one per RPC. */
export type Handlers<N extends ServiceName> = {
  readonly [M in MethodName<N>]: Handler<Services[N][M]>;
};

/**
 * A message whose fields are optional at every depth; an absent field has its proto3 default on the wire. Requests use it.
 * Responses must be complete, so that a forgotten field does not compile.
 */
export type Partially<T> = T extends bigint | boolean | number | string | Uint8Array | null
  ? T
  : T extends readonly (infer E)[]
    ? readonly Partially<E>[]
    : { readonly [K in keyof T]?: Partially<T[K]> | undefined };
