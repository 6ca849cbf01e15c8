/** The connection to one agent: a gRPC channel which reports whether it is up, and calls that fail at once while it is not. */
import {
  Client as Channel,
  type ChannelCredentials,
  type ChannelOptions,
  connectivityState,
} from '@grpc/grpc-js';
import { makeClientOn } from '../csi/client.ts';
import type { ServerStream, Unary } from '../csi/rpc-kinds.ts';
import type { MethodName, ServiceName, Services } from '../csi/rpc-types.ts';
import { agentChannelOptions, type PeerListener } from '../tls/agent-channel.ts';

/** The TLS side of the connections to agents. */
export interface AgentCredentials {
  /**
   * Credentials of a new channel, with the certificates that are current now. Throws an error with the reason if there are no
   * certificates yet.
   */
  readonly forChannel: (listener: PeerListener) => ChannelCredentials;
  /** Calls back when the certificates have changed. Returns the function that ends this. */
  readonly watch: (onChange: () => void) => () => void;
}

export interface ConnectionTimings {
  /** An agent that does not answer a PING of HTTP/2 is unreachable after both times. */
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
  /** An attempt to connect that takes longer is given up. grpc-js waits for ever for a peer that accepts and says nothing. */
  readonly connectTimeoutMs: number;
  readonly firstReconnectMs: number;
  readonly maxReconnectMs: number;
}

/** Larger than any page of volumes, even without max_entries. */
const maxMessageBytes = 256 * 1024 * 1024;

function channelOptions(timings: ConnectionTimings): ChannelOptions {
  return {
    ...agentChannelOptions,
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
    'grpc.keepalive_time_ms': timings.pingIntervalMs,
    'grpc.keepalive_timeout_ms': timings.pingTimeoutMs,
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.initial_reconnect_backoff_ms': timings.firstReconnectMs,
    'grpc.max_reconnect_backoff_ms': timings.maxReconnectMs,
  };
}

type Request<N extends ServiceName, M extends MethodName<N>> = Services[N][M] extends
  | Unary<infer Q, unknown>
  | ServerStream<infer Q, unknown>
  ? Q
  : never;
type Response<N extends ServiceName, M extends MethodName<N>> = Services[N][M] extends {
  readonly response: infer S;
}
  ? S
  : never;

/** A call to an agent: the service, the RPC, and its request. */
export interface AgentCall<N extends ServiceName, M extends MethodName<N>> {
  readonly service: N;
  readonly rpc: M;
  readonly request: Request<N, M>;
}

export type AgentResponse<N extends ServiceName, M extends MethodName<N>> = Response<N, M>;

export interface CallLimits {
  readonly signal?: AbortSignal;
  /** Absent if there is no time limit. */
  readonly timeoutMs?: number;
}

type AnyClient = Readonly<
  Record<string, (request: object, limits: CallLimits) => Promise<unknown> | AsyncIterable<unknown>>
>;

export interface Connection {
  readonly isUp: () => boolean;
  /** Calls the agent. Fails with grpc-js's ServiceError. */
  readonly call: <N extends ServiceName, M extends MethodName<N>>(
    call: AgentCall<N, M>,
    limits: CallLimits,
  ) => Promise<AgentResponse<N, M>>;
  readonly stream: <N extends ServiceName, M extends MethodName<N>>(
    call: AgentCall<N, M>,
    limits: CallLimits,
  ) => AsyncIterable<AgentResponse<N, M>>;
  /** Ends running calls. */
  readonly close: () => void;
  /** Closes the connection when the running calls have ended. */
  readonly closeWhenIdle: () => void;
}

/** `failed`: the last attempt to connect has failed, and the next calls fail with its reason. */
export type ConnectionState = 'up' | 'down' | 'failed';

/** Connects, again and again until `close`. */
export function connect(options: {
  readonly address: string;
  readonly credentials: ChannelCredentials;
  readonly timings: ConnectionTimings;
  readonly onChange: (state: ConnectionState) => void;
  /** Called when an attempt to connect takes longer than `connectTimeoutMs`, or the attempts after a failed one take longer. */
  readonly onTimeout: () => void;
}): Connection {
  const { address, credentials, timings } = options;
  const channel = new Channel(`dns:${address}`, credentials, channelOptions(timings));
  const clients = new Map<ServiceName, AnyClient>();
  const clientOf = (service: ServiceName): AnyClient => {
    const known = clients.get(service);
    if (known !== undefined) return known;
    // AgentCall and AgentResponse relate the types of both sides again.
    const made = makeClientOn(service, channel) as unknown as AnyClient;
    clients.set(service, made);
    return made;
  };
  const invoke =
    ({ service, rpc, request }: { service: ServiceName; rpc: string; request: object }) =>
    (limits: CallLimits) => {
      const method = clientOf(service)[rpc];
      if (method === undefined) throw new Error(`${service} has no ${rpc}`);
      return method(request, limits);
    };
  const stopWatching = watchState(channel, options);
  const close = (): void => {
    stopWatching();
    channel.close();
  };
  const running = countRunning();
  return {
    isUp: () => channel.getChannel().getConnectivityState(false) === connectivityState.READY,
    call: async (call, limits) =>
      running.during(() => invoke(call as never)(limits) as Promise<never>),
    stream: (call, limits) =>
      running.duringStream(() => invoke(call as never)(limits) as AsyncIterable<never>),
    close,
    closeWhenIdle: () => {
      // It is used no more, so changes of its state mean nothing.
      stopWatching();
      running.whenNone(close);
    },
  };
}

/** Stands for a connection that cannot be attempted. Its calls fail with the reason. */
export function noConnection(problem: Error): Connection {
  return {
    isUp: () => false,
    call: async () => {
      throw problem;
    },
    stream: () => {
      throw problem;
    },
    close: () => undefined,
    closeWhenIdle: () => undefined,
  };
}

/** Counts running calls. */
function countRunning() {
  let count = 0;
  let atNone: (() => void) | undefined;
  const begin = (): (() => void) => {
    count += 1;
    return () => {
      count -= 1;
      if (count === 0) atNone?.();
    };
  };
  return {
    during: async <T>(work: () => Promise<T>): Promise<T> => {
      const end = begin();
      try {
        return await work();
      } finally {
        end();
      }
    },
    duringStream: async function* <T>(open: () => AsyncIterable<T>): AsyncGenerator<T> {
      const end = begin();
      try {
        yield* open();
      } finally {
        end();
      }
    },
    /** Calls `then` as soon as no call is running. */
    whenNone: (then: () => void): void => {
      atNone = then;
      if (count === 0) then();
    },
  };
}

/** Keeps the channel connecting, and calls back at each change of its state, and for an attempt that takes too long. */
function watchState(
  channel: Channel,
  { timings, onChange, onTimeout }: Parameters<typeof connect>[0],
): () => void {
  let isClosed = false;
  let timer: NodeJS.Timeout | undefined;
  const watch = (): ConnectionState => {
    // The argument makes an idle channel connect.
    const state = channel.getChannel().getConnectivityState(true);
    clearTimeout(timer);
    // After a failed attempt, grpc-js does not report the state of the next ones until one succeeds.
    const pauseMs = state === connectivityState.TRANSIENT_FAILURE ? timings.maxReconnectMs : 0;
    if (state !== connectivityState.READY)
      timer = setTimeout(onTimeout, timings.connectTimeoutMs + pauseMs).unref();
    channel.getChannel().watchConnectivityState(state, Infinity, () => {
      if (isClosed) return;
      onChange(watch());
    });
    if (state === connectivityState.READY) return 'up';
    return state === connectivityState.TRANSIENT_FAILURE ? 'failed' : 'down';
  };
  watch();
  return () => {
    isClosed = true;
    clearTimeout(timer);
  };
}
