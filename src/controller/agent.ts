/** One agent, the driver of a node: whether it may be called, and the calls to it. */
import { isDeepStrictEqual } from 'node:util';
import { type ChannelCredentials, status } from '@grpc/grpc-js';
import type { HelloResponse } from '../csi/agent-types.ts';
import type { MethodName, ServiceName } from '../csi/rpc-types.ts';
import { messageOf, VolumeError } from '../errors.ts';
import { nodeTagOf } from '../ids.ts';
import type { Logger } from '../observe/log.ts';
import { type CallStatus, findServiceError, StatusError } from '../rpc/status.ts';
import {
  type AgentCall,
  type AgentCredentials,
  type AgentResponse,
  type Connection,
  type ConnectionState,
  type ConnectionTimings,
  connect,
  noConnection,
} from './connection.ts';
import type { AgentEndpoint } from './discovery/discovery.ts';

/** The version of loopcsi.agent.v1 that this controller speaks. Versions only add calls and fields. */
export const agentApiVersion = 1;

export type AgentState =
  | { readonly kind: 'connecting'; readonly sinceMs: number }
  | { readonly kind: 'ready'; readonly sinceMs: number }
  | { readonly kind: 'unreachable'; readonly sinceMs: number; readonly problem: string }
  | { readonly kind: 'refused'; readonly sinceMs: number; readonly why: string };

export interface AgentTimings extends ConnectionTimings {
  readonly helloIntervalMs: number;
  readonly helloTimeoutMs: number;
  /** Pause before Hello is repeated on a connection that is up. */
  readonly helloRetryMs: number;
  /** The response must reach the caller this long before it gives up. */
  readonly answerMs: number;
}

export const agentTimings: AgentTimings = {
  pingIntervalMs: 10_000,
  pingTimeoutMs: 5_000,
  connectTimeoutMs: 20_000,
  firstReconnectMs: 1_000,
  maxReconnectMs: 10_000,
  helloIntervalMs: 60_000,
  helloTimeoutMs: 5_000,
  helloRetryMs: 5_000,
  answerMs: 500,
};

/** Calls that one agent gets at a time. More would wait in a node that does not keep up, and fill the memory here. */
const maxRunningCalls = 64;

export interface AgentOptions {
  readonly credentials: AgentCredentials;
  readonly driverName: string;
  readonly version: string;
  readonly timings: AgentTimings;
  readonly log: Logger;
  /** A monotonic clock, in milliseconds. */
  readonly nowMs: () => number;
  /** Called when the state or what the agent says about itself has changed. */
  readonly onChange: () => void;
  readonly onCallEnded: (call: { readonly node: string; readonly code: string }) => void;
}

/** Who waits for a call to an agent. */
export interface Caller {
  readonly signal: AbortSignal;
  /** In milliseconds since 1970; Infinity without a time limit. */
  readonly deadlineMs: number;
}

/** The same caller, for a question that must be answered within that time. */
export function atMost(timeoutMs: number, { signal, deadlineMs }: Caller): Caller {
  return { signal, deadlineMs: Math.min(deadlineMs, Date.now() + timeoutMs) };
}

/** The controller itself, which waits that long. */
export function ownCaller(timeoutMs: number): Caller {
  return { signal: new AbortController().signal, deadlineMs: Date.now() + timeoutMs };
}

export class Agent {
  readonly #options: AgentOptions;
  #endpoint: AgentEndpoint;
  #connection: Connection;
  /** With newer certificates; it replaces the connection once it is up. */
  #next: Connection | undefined;
  /** Replaced; it may still have running calls. */
  #earlier: Connection | undefined;
  #state: AgentState;
  #hello: HelloResponse | undefined;
  #acceptedHello: HelloResponse | undefined;
  /** Why the certificate of the peer of this connection is refused. */
  #refusedCertificate: string | undefined;
  /** When the certificate of the peer of the connection expires. */
  #peerExpiresAtMs = Infinity;
  #running = 0;
  #helloTimer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(endpoint: AgentEndpoint, options: AgentOptions) {
    this.#endpoint = endpoint;
    this.#options = options;
    this.#state = { kind: 'connecting', sinceMs: options.nowMs() };
    this.#connection = this.#connect();
  }

  get endpoint(): AgentEndpoint {
    return this.#endpoint;
  }

  get state(): AgentState {
    return this.#state;
  }

  /** What the agent last said about itself; undefined if it never has. */
  get hello(): HelloResponse | undefined {
    return this.#hello;
  }

  /** What the agent last said when it was ready; what a refused agent says about its node is not believed. */
  get acceptedHello(): HelloResponse | undefined {
    return this.#acceptedHello;
  }

  /** The node's id if it is known, otherwise the address. */
  get name(): string {
    return this.#endpoint.nodeName ?? this.#hello?.node_id ?? this.#endpoint.address;
  }

  /** Takes over a change of the endpoint with the same address. */
  update(endpoint: AgentEndpoint): void {
    const isSameNode = endpoint.nodeName === this.#endpoint.nodeName;
    this.#endpoint = endpoint;
    if (isSameNode) return;
    this.#hello = undefined;
    this.#acceptedHello = undefined;
    this.#state = { kind: 'connecting', sinceMs: this.#options.nowMs() };
    if (this.#connection.isUp()) this.#greet();
  }

  /** Connects again with the current certificates. Calls use the earlier connection until the new one is up, and end on it. */
  reconnect(): void {
    this.#next?.close();
    this.#next = this.#connect();
    if (!this.#connection.isUp()) this.#useNext(this.#next);
  }

  #useNext(next: Connection): void {
    const earlier = this.#connection;
    this.#connection = next;
    this.#next = undefined;
    this.#earlier = earlier;
    earlier.closeWhenIdle();
  }

  /** Ends running calls with UNAVAILABLE. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#helloTimer);
    this.#connection.close();
    this.#next?.close();
    this.#earlier?.close();
  }

  /**
   * Passes a call on and returns the agent's response, or throws its code and message. Throws `unavailable` at once if the agent is not
   * ready or has too many calls, and as soon as the connection is lost.
   */
  async call<N extends ServiceName, M extends MethodName<N>>(
    call: AgentCall<N, M>,
    caller: Caller,
  ): Promise<AgentResponse<N, M>> {
    const end = this.#start();
    const connection = this.#connection;
    try {
      const limits = this.#limits(caller);
      const response = await connection.call(call, limits);
      end('OK');
      return response;
    } catch (error) {
      const failure = this.#failureOf(error, connection);
      end(status[failure.code]);
      throw failure;
    }
  }

  /** As `call`, for a call whose responses are a stream. */
  async *stream<N extends ServiceName, M extends MethodName<N>>(
    call: AgentCall<N, M>,
    caller: Caller,
  ): AsyncGenerator<AgentResponse<N, M>> {
    const end = this.#start();
    const connection = this.#connection;
    let code = 'CANCELLED';
    try {
      for await (const response of connection.stream(call, this.#limits(caller))) yield response;
      code = 'OK';
    } catch (error) {
      const failure = this.#failureOf(error, connection);
      code = status[failure.code];
      throw failure;
    } finally {
      end(code);
    }
  }

  /** Counts a call. The returned function ends the count. */
  #start(): (code: string) => void {
    if (this.#state.kind !== 'ready' || this.#isClosed) {
      throw new VolumeError('unavailable', `${this.name} is not connected; retry later`);
    }
    if (this.#running >= maxRunningCalls) {
      throw new VolumeError(
        'unavailable',
        `node '${this.name}' already has ${maxRunningCalls} calls of this controller; retry later`,
      );
    }
    this.#running += 1;
    return (code) => {
      this.#running -= 1;
      this.#options.onCallEnded({ node: this.name, code });
    };
  }

  #limits({ signal, deadlineMs }: Caller): { signal: AbortSignal; timeoutMs?: number } {
    if (deadlineMs === Infinity) return { signal };
    const { answerMs } = this.#options.timings;
    const timeoutMs = deadlineMs - answerMs - Date.now();
    if (timeoutMs > 0) return { signal, timeoutMs };
    throw new StatusError(
      status.DEADLINE_EXCEEDED,
      `the deadline leaves no time to ask node '${this.name}'; give calls more than ${answerMs} ms`,
    );
  }

  #failureOf(error: unknown, connection: Connection): StatusError {
    if (error instanceof StatusError) return error;
    const { code, details } = serviceErrorOf(error);
    if (code === status.DEADLINE_EXCEEDED) {
      const message = `node '${this.name}' has not answered within the deadline; if it has begun, it continues: repeat the call`;
      return new StatusError(code, message, { cause: error });
    }
    if (code === status.UNAVAILABLE && !connection.isUp()) {
      const message = `the connection to node '${this.name}' was lost during the call; if it has begun, it continues there: repeat the call`;
      return new StatusError(code, message, { cause: error });
    }
    return new StatusError(code, details, { cause: error });
  }

  #connect(): Connection {
    this.#refusedCertificate = undefined;
    let credentials: ChannelCredentials;
    try {
      credentials = this.#options.credentials.forChannel({
        onRefused: (why) => {
          if (connection === this.#connection) this.#refusedCertificate = why;
          else if (connection === this.#next) this.#distrust(connection, why);
        },
        onAccepted: (expiresAtMs) => {
          this.#peerExpiresAtMs = expiresAtMs;
        },
      });
    } catch (error) {
      this.#leave(messageOf(error));
      return noConnection(new Error(messageOf(error), { cause: error }));
    }
    const connection = connect({
      address: this.#endpoint.address,
      credentials,
      timings: this.#options.timings,
      onChange: (state) => {
        if (connection === this.#next && (state === 'up' || !this.#connection.isUp()))
          this.#useNext(connection);
        if (connection === this.#connection) this.#connectionChanged(state);
        else if (connection === this.#next && state === 'failed') void this.#checkNext(connection);
      },
      onTimeout: () => {
        const isUsed = connection === this.#connection || connection === this.#next;
        if (isUsed && !this.#isClosed) this.reconnect();
      },
    });
    return connection;
  }

  /**
   * The connection with newer certificates has failed while the earlier one is up. If these certificates do not trust the agent, the
   * earlier connection must not be used any longer. If the agent does not trust them, or is only restarting, it may be.
   */
  async #checkNext(next: Connection): Promise<void> {
    const { version, timings } = this.#options;
    const request = { api_version: agentApiVersion, controller_version: version };
    const limits = { timeoutMs: timings.helloTimeoutMs };
    try {
      await next.call({ service: 'loopcsi.agent.v1.Agent', rpc: 'Hello', request }, limits);
    } catch (error) {
      const { details } = serviceErrorOf(error);
      const isOurs = certificateProblem.test(details) && !/alert/i.test(details);
      if (isOurs) this.#distrust(next, withoutResolution(details));
    }
  }

  /** Ends the earlier connection at once: its peer is not trusted any more. */
  #distrust(next: Connection, why: string): void {
    if (this.#isClosed || next !== this.#next) return;
    const earlier = this.#connection;
    this.#connection = next;
    this.#next = undefined;
    this.#refusedCertificate = why;
    earlier.close();
    this.#refuse(why);
  }

  #connectionChanged(state: ConnectionState): void {
    if (this.#isClosed) return;
    if (state !== 'up' && this.#state.kind === 'ready') this.#leave('the connection was lost');
    // A call on a connection that could not be made fails with the reason.
    if (state !== 'down') this.#greet();
  }

  #greet(): void {
    clearTimeout(this.#helloTimer);
    const connection = this.#connection;
    const { version, timings } = this.#options;
    const { helloIntervalMs, helloRetryMs, helloTimeoutMs } = timings;
    const repeatAfter = (ms: number): void => {
      if (this.#isClosed || connection !== this.#connection) return;
      clearTimeout(this.#helloTimer);
      this.#helloTimer = setTimeout(() => {
        if (!connection.isUp()) return;
        // A certificate is checked when a connection is made, so an expired one needs a new connection.
        if (Date.now() >= this.#peerExpiresAtMs) this.reconnect();
        this.#greet();
      }, ms).unref();
    };
    connection
      .call(
        {
          service: 'loopcsi.agent.v1.Agent',
          rpc: 'Hello',
          request: { api_version: agentApiVersion, controller_version: version },
        },
        { timeoutMs: helloTimeoutMs },
      )
      .then(
        (hello) => {
          if (this.#isClosed || connection !== this.#connection) return;
          this.#accept(hello);
          repeatAfter(helloIntervalMs);
        },
        (error: unknown) => {
          if (this.#isClosed || connection !== this.#connection) return;
          this.#helloFailed(error);
          repeatAfter(helloRetryMs);
        },
      );
  }

  #accept(hello: HelloResponse): void {
    const isNew = !isDeepStrictEqual(hello, this.#hello);
    this.#hello = hello;
    this.#refusedCertificate = undefined;
    const why = this.#refusalOf(hello);
    if (why === undefined) {
      this.#acceptedHello = hello;
      const sinceMs = this.#state.kind === 'ready' ? this.#state.sinceMs : this.#options.nowMs();
      this.#setState({ kind: 'ready', sinceMs });
    } else {
      this.#refuse(why);
    }
    if (isNew) this.#options.onChange();
  }

  /** Why an agent must not be called: its answers would be about another node, or mean something else. */
  #refusalOf(hello: HelloResponse): string | undefined {
    const { api_version, driver_name, node_id, node_tag } = hello;
    if (api_version < agentApiVersion)
      return `it speaks version ${api_version} of the interface for controllers, and this controller needs ${agentApiVersion}; upgrade the driver of the node`;
    if (driver_name !== this.#options.driverName)
      return `its driver is '${driver_name}', and this controller is for '${this.#options.driverName}'; correct --agents or --driver-name`;
    if (node_tag !== nodeTagOf(node_id))
      return `it says that node '${node_id}' has the tag '${node_tag}', which is not the hash of that id; upgrade the driver of the node`;
    const { nodeName } = this.#endpoint;
    if (nodeName !== undefined && nodeName !== node_id)
      return `it says that it is node '${node_id}', but it runs on node '${nodeName}'; set --node-id to the name of the Node object`;
    return undefined;
  }

  #helloFailed(error: unknown): void {
    const { code, details } = serviceErrorOf(error);
    if (this.#refusedCertificate !== undefined) {
      this.#refuse(this.#refusedCertificate);
    } else if (certificateProblem.test(details)) {
      this.#refuse(withoutResolution(details));
    } else if (code === status.UNIMPLEMENTED) {
      const why =
        'what answers there is not an agent of this driver; correct --agents, or upgrade the driver of the node';
      this.#refuse(why);
    } else {
      this.#leave(withoutResolution(details));
    }
  }

  #leave(problem: string): void {
    this.#setState({ kind: 'unreachable', sinceMs: this.#absentSinceMs(), problem });
  }

  #refuse(why: string): void {
    this.#setState({ kind: 'refused', sinceMs: this.#absentSinceMs(), why });
  }

  #absentSinceMs(): number {
    return this.#state.kind === 'ready' ? this.#options.nowMs() : this.#state.sinceMs;
  }

  #setState(state: AgentState): void {
    const earlier = this.#state;
    this.#state = state;
    const { log, onChange } = this.#options;
    if (earlier.kind === state.kind && textOf(earlier) === textOf(state)) return;
    const fields = { node: this.name, address: this.#endpoint.address, state: state.kind };
    if (state.kind === 'ready') log.info(fields, 'agent is ready');
    else if (earlier.kind !== state.kind)
      log.warn({ ...fields, problem: textOf(state) }, 'agent is not ready');
    else log.debug({ ...fields, problem: textOf(state) }, 'agent is not ready');
    onChange();
  }
}

/** What OpenSSL says if one side does not accept the certificate of the other. */
const certificateProblem = /certificate|unknown ca/i;

function textOf(state: AgentState): string {
  if (state.kind === 'unreachable') return state.problem;
  return state.kind === 'refused' ? state.why : '';
}

function serviceErrorOf(error: unknown): CallStatus {
  return findServiceError(error) ?? { code: status.INTERNAL, details: messageOf(error) };
}

/** grpc-js appends how it resolved the address, and the time of the failure. */
function withoutResolution(details: string): string {
  return (
    details
      .replace(/^No connection established\. Last error: (?:Error: )?/, '')
      // In TLS 1.3, a client that is refused only sees that the connection is closed.
      .replace(
        /^Failed to connect/,
        'the connection was closed before it was usable; if the agent refuses the certificate of this controller, its log says why',
      )
      .replace(/ \(\d{4}-\d\d-\d\dT[^)]*\)/, '')
      .replace(/\.? Resolution note:.*$/, '')
  );
}
