/** The two shapes of a call; the generated types name theirs with them. */

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
