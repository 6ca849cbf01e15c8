/** The three kinds of RPCs. The generated types use them to describe the methods of services. */

/** One request, one response. */
export interface Unary<Q, S> {
  readonly kind: 'unary';
  readonly request: Q;
  readonly response: S;
}

/** One request, a stream of responses. */
export interface ServerStream<Q, S> {
  readonly kind: 'server-stream';
  readonly request: Q;
  readonly response: S;
}

/** A stream of requests, one response. */
export interface ClientStream<Q, S> {
  readonly kind: 'client-stream';
  readonly request: Q;
  readonly response: S;
}
