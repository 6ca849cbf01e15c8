/**
 * The wrapper around every gRPC method. Without it, a handler that throws would terminate the process, and its caller would
 * wait until its deadline.
 */
import type {
  handleClientStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  sendUnaryData,
} from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { causeOf, VolumeError } from '../errors.ts';
import type { Logger } from '../observe/log.ts';
import type { CallMeasurement } from '../observe/metrics.ts';
import type { Call } from '../volumes/engine/operations.ts';
import type { LogClass } from './advertised.ts';
import { type CallStatus, codeName, toStatus } from './status.ts';

/** A call as the methods of a service see it. */
export interface RpcCall extends Call {
  /** When the caller gives up, in milliseconds since 1970; Infinity if it never does. */
  readonly deadlineMs: number;
  /** The address of the caller and its port; what it is on a unix socket depends on grpc-js. */
  readonly peer: string;
}

/** Dependencies that all methods of a server share. */
export interface ServerHooks {
  readonly log: Logger;
  readonly callEnded: (call: CallMeasurement) => void;
  readonly admit: Admit;
  /** Log fields that say what a request is about. */
  readonly fieldsOf: (request: unknown) => Readonly<Record<string, string>>;
}

/** Describes a method for the wrapper. */
export interface Method {
  readonly service: string;
  readonly rpc: string;
  readonly logClass: LogClass;
  /** Throws `invalid` if the request exceeds the size limits. */
  readonly checkLimits: (request: unknown) => void;
  /** Copies of messages with their secrets masked, for the log. */
  readonly redactRequest: (message: unknown) => unknown;
  readonly redactResponse: (message: unknown) => unknown;
}

/** Counts a call as running, or throws `unavailable` if too many are running. The returned function ends the count. */
type Admit = () => () => void;

/** Limits the number of concurrent calls, so that no caller can exhaust the memory. */
export function limitCalls(limit: number): Admit {
  let running = 0;
  return () => {
    if (running >= limit) {
      throw new VolumeError('unavailable', `${limit} calls are already running; retry later`);
    }
    running += 1;
    return () => {
      running -= 1;
    };
  };
}

let lastCallId = 0;

/** A running call. It has the context for the domain, and logs and measures the end of the call. */
class RunningCall {
  readonly context: RpcCall;
  readonly #method: Method;
  readonly #hooks: ServerHooks;
  readonly #startedMs = performance.now();
  readonly #abort = new AbortController();
  #hasEnded = false;

  constructor(
    method: Method,
    hooks: ServerHooks,
    {
      request,
      deadline,
      peer,
    }: { readonly request: unknown; readonly deadline: Date | number; readonly peer: string },
  ) {
    this.#method = method;
    this.#hooks = hooks;
    lastCallId += 1;
    const fields = { rpc: method.rpc, callId: lastCallId, ...hooks.fieldsOf(request) };
    this.context = {
      log: hooks.log.child(fields),
      signal: this.#abort.signal,
      deadlineMs: Number(deadline),
      peer,
    };
    if (this.context.log.isLevelEnabled('trace')) {
      this.context.log.trace({ request: method.redactRequest(request) }, 'call started');
    }
  }

  /**
   * Aborts the call's signal when its caller has disconnected or its deadline has passed. An operation that has started
   * continues.
   */
  cancel(): void {
    // grpc-js emits 'cancelled' whenever the stream is closed, even after the response.
    if (!this.#hasEnded) this.#abort.abort();
  }

  succeed(response?: unknown): void {
    if (response !== undefined && this.context.log.isLevelEnabled('trace')) {
      this.context.log.trace({ response: this.#method.redactResponse(response) }, 'call answered');
    }
    this.#end({ code: status.OK, details: '' });
  }

  fail(error: unknown): CallStatus {
    const failure = toStatus(error);
    // A bug or damaged data, which an operator must examine. The causes of the error are logged but not returned.
    if (failure.code === status.INTERNAL) this.context.log.error({ err: error }, 'call failed');
    // The end of a read call is usually not logged, and the alert LoopcsiCallsFailing counts it.
    else if (failure.code === status.UNAVAILABLE) {
      this.context.log.warn({ details: failure.details, cause: causeOf(error) }, 'call failed');
    }
    this.#end(failure, error);
    return failure;
  }

  #end({ code, details }: CallStatus, error?: unknown): void {
    this.#hasEnded = true;
    const { service, rpc, logClass } = this.#method;
    const durationMs = performance.now() - this.#startedMs;
    const ended = { code: codeName(code), durationMs: Math.round(durationMs * 10) / 10 };
    this.#hooks.callEnded({ service, rpc, code: ended.code, durationMs });
    const { log } = this.context;
    const failure = error === undefined ? {} : { details, cause: causeOf(error) };
    log[levelOf(logClass)]({ ...ended, ...failure }, 'call ended');
  }
}

function levelOf(logClass: LogClass): 'info' | 'debug' | 'trace' {
  switch (logClass) {
    case 'change':
      return 'info';
    case 'read':
      return 'debug';
    case 'polling':
      return 'trace';
  }
}

function startCall(
  method: Method,
  hooks: ServerHooks,
  call: { readonly request: unknown; getDeadline(): Date | number; getPeer(): string },
): RunningCall {
  const { request } = call;
  const [deadline, peer] = [call.getDeadline(), call.getPeer()];
  return new RunningCall(method, hooks, { request, deadline, peer });
}

/** Creates the grpc-js handler of a unary method. `handle` may throw anything. */
export function makeUnaryHandler<Q, S>(
  method: Method,
  hooks: ServerHooks,
  handle: (request: Q, call: RpcCall) => Promise<S>,
): handleUnaryCall<Q, S> {
  return (call, answer) => {
    const running = startCall(method, hooks, call);
    call.on('cancelled', () => {
      running.cancel();
    });
    answerOnce(running, hooks, answer, async () => {
      method.checkLimits(call.request);
      return handle(call.request, running.context);
    });
  };
}

/** Runs the handler within the limit of concurrent calls, and sends its response or its error. */
function answerOnce<S>(
  running: RunningCall,
  hooks: ServerHooks,
  answer: sendUnaryData<S>,
  handle: () => Promise<S>,
): void {
  const work = async (): Promise<S> => {
    const release = hooks.admit();
    try {
      return await handle();
    } finally {
      release();
    }
  };
  work().then(
    (response) => {
      running.succeed(response);
      answer(null, response);
    },
    (error: unknown) => {
      answer(running.fail(error));
    },
  );
}

/**
 * Creates the grpc-js handler of a client-streaming method. The requests are read only as fast as `handle` reads them. If the
 * caller disconnects before the end of its requests, the iterator throws `cancelled`.
 */
export function makeRequestStreamHandler<S>(
  method: Method,
  hooks: ServerHooks,
  handle: (requests: AsyncIterable<object>, call: RpcCall) => Promise<S>,
): handleClientStreamingCall<object, S> {
  return (call, answer) => {
    const running = new RunningCall(method, hooks, {
      request: undefined,
      deadline: call.getDeadline(),
      peer: call.getPeer(),
    });
    const { signal } = running.context;
    call.on('cancelled', () => {
      running.cancel();
    });
    const requests = async function* (): AsyncGenerator<object> {
      try {
        for await (const request of call as AsyncIterable<object>) {
          method.checkLimits(request);
          yield request;
        }
      } catch (error) {
        if (error instanceof VolumeError) throw error;
        throw new VolumeError('cancelled', 'the caller has disconnected', { cause: error });
      }
      if (signal.aborted) throw new VolumeError('cancelled', 'the caller has disconnected');
    };
    answerOnce(running, hooks, answer, () => handle(requests(), running.context));
  };
}

/**
 * Creates the grpc-js handler of a server-streaming method. The messages of `handle` are read only as fast as the caller
 * reads them, and its iterator is closed when the caller disconnects. An incomplete stream always ends with an error status.
 */
export function makeStreamHandler<Q, S>(
  method: Method,
  hooks: ServerHooks,
  handle: (request: Q, call: RpcCall) => AsyncIterable<S>,
): handleServerStreamingCall<Q, S> {
  return (call) => {
    const { request } = call;
    const streamed: StreamedCall<S> = {
      request,
      deadline: call.getDeadline(),
      peer: call.getPeer(),
      onCancelled: (listener) => call.on('cancelled', listener),
      messages: (context) => {
        method.checkLimits(request);
        return handle(request, context);
      },
      send: async (message, signal) => {
        if (!call.write(message)) await untilDrained(call, signal);
      },
    };
    void runStreamedCall(method, hooks, streamed).then((failure) => {
      if (failure === undefined) call.end();
      else call.emit('error', failure);
    });
  };
}

/** A call whose answer is many messages, on whatever carries them. */
export interface StreamedCall<S> {
  /** For the log. */
  readonly request: unknown;
  readonly deadline: Date | number;
  readonly peer: string;
  /** Calls the listener when the caller has disconnected, also after the end. */
  readonly onCancelled: (listener: () => void) => void;
  /** Runs the call. It may throw anything. */
  readonly messages: (call: RpcCall) => AsyncIterable<S>;
  /** Resolves when the next message may be sent, or the signal has been aborted. */
  readonly send: (message: S, signal: AbortSignal) => Promise<void>;
}

/** Runs a call with the hooks of its server. Never throws: it returns the failure, or undefined after the last message. */
export async function runStreamedCall<S>(
  method: Method,
  hooks: ServerHooks,
  { request, deadline, peer, onCancelled, messages, send }: StreamedCall<S>,
): Promise<CallStatus | undefined> {
  const running = new RunningCall(method, hooks, { request, deadline, peer });
  const { signal } = running.context;
  onCancelled(() => {
    running.cancel();
  });
  try {
    const release = hooks.admit();
    try {
      for await (const message of messages(running.context)) {
        if (signal.aborted) throw new VolumeError('cancelled', 'the caller has disconnected');
        await send(message, signal);
      }
    } finally {
      release();
    }
  } catch (error) {
    return running.fail(error);
  }
  running.succeed();
  return undefined;
}

/** Resolves when the stream accepts more messages or the caller has disconnected. */
async function untilDrained(stream: NodeJS.EventEmitter, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      stream.removeListener('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    stream.on('drain', done);
    signal.addEventListener('abort', done);
  });
}
