/** The one wrapper around every method: without it a handler that throws would end the process and leave its caller waiting. */
import type { handleServerStreamingCall, handleUnaryCall } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { messageOf, VolumeError } from '../errors.ts';
import type { Logger } from '../observe/log.ts';
import type { Call } from '../volumes/operations.ts';
import type { Weight } from './advertised.ts';
import { type CallStatus, codeName, toStatus } from './status.ts';

/** What is counted about a call that has ended. `code` is the name of the gRPC code. */
export interface EndedCall {
  readonly service: string;
  readonly rpc: string;
  readonly code: string;
  readonly durationMs: number;
}

/** What all methods of a server share. */
export interface Edge {
  readonly log: Logger;
  readonly callEnded: (call: EndedCall) => void;
  readonly admission: Admission;
}

/** One method as the wrapper sees it. */
export interface Method {
  readonly service: string;
  readonly rpc: string;
  readonly weight: Weight;
  /** Throws `invalid` when the request breaks the size limits. */
  readonly check: (request: unknown) => void;
  /** Copies of messages with their secrets masked, for the log. */
  readonly redactRequest: (message: unknown) => unknown;
  readonly redactResponse: (message: unknown) => unknown;
}

/** Bounds the calls that run at a time, so that a caller without manners cannot fill the memory. */
export class Admission {
  readonly #limit: number;
  #running = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Throws `unavailable` when too many run; answers how to leave. */
  enter(): () => void {
    if (this.#running >= this.#limit) {
      throw new VolumeError(
        'unavailable',
        `${this.#limit} calls are running already; try again in a moment`,
      );
    }
    this.#running += 1;
    return () => {
      this.#running -= 1;
    };
  }
}

let lastCall = 0;

/** A call under way: its context for the domain, and how to end it. */
class Entered {
  readonly context: Call;
  readonly #method: Method;
  readonly #edge: Edge;
  readonly #startedMs = performance.now();
  readonly #abort = new AbortController();
  #hasEnded = false;

  constructor(method: Method, edge: Edge, request: unknown) {
    this.#method = method;
    this.#edge = edge;
    lastCall += 1;
    const fields = { rpc: method.rpc, callId: lastCall, volumeId: volumeIdOf(request) };
    this.context = { log: edge.log.child(fields), signal: this.#abort.signal };
    if (this.context.log.isLevelEnabled('trace')) {
      this.context.log.trace({ request: method.redactRequest(request) }, 'call started');
    }
  }

  /** The caller is gone or its deadline has passed: ends the waiting, not the work. */
  cancel(): void {
    // grpc-js says so of every call whose stream is closed, also of one that was answered.
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
    // A bug, or something broken that a person must look at; the whole chain goes to the log and only there.
    if (failure.code === status.INTERNAL) this.context.log.error({ err: error }, 'call failed');
    this.#end(failure, error);
    return failure;
  }

  #end({ code, details }: CallStatus, error?: unknown): void {
    this.#hasEnded = true;
    const { service, rpc, weight } = this.#method;
    const durationMs = performance.now() - this.#startedMs;
    const ended = { code: codeName(code), durationMs: Math.round(durationMs * 10) / 10 };
    this.#edge.callEnded({ service, rpc, code: ended.code, durationMs });
    const { log } = this.context;
    const cause = error instanceof Error && error.cause !== undefined ? messageOf(error.cause) : '';
    const failure = error === undefined ? {} : { details, ...(cause === '' ? {} : { cause }) };
    log[levelOf(weight)]({ ...ended, ...failure }, 'call ended');
  }
}

/** One info line for each call that changes something; the rest only when asked for. */
function levelOf(weight: Weight): 'info' | 'debug' | 'trace' {
  switch (weight) {
    case 'change':
      return 'info';
    case 'read':
      return 'debug';
    case 'chatter':
      return 'trace';
  }
}

function volumeIdOf(request: unknown): string | undefined {
  if (typeof request !== 'object' || request === null || !('volume_id' in request))
    return undefined;
  const { volume_id: id } = request;
  // Limits are checked later: what is written here must be short whatever the caller sent.
  return typeof id === 'string' && id !== '' ? id.slice(0, 128) : undefined;
}

/** A unary method for grpc-js. `handle` may throw anything. */
export function unary<Q, S>(
  method: Method,
  edge: Edge,
  handle: (request: Q, call: Call) => Promise<S>,
): handleUnaryCall<Q, S> {
  return (call, answer) => {
    const entered = new Entered(method, edge, call.request);
    call.on('cancelled', () => {
      entered.cancel();
    });
    const work = async (): Promise<S> => {
      const leave = edge.admission.enter();
      try {
        method.check(call.request);
        return await handle(call.request, entered.context);
      } finally {
        leave();
      }
    };
    work().then(
      (response) => {
        entered.succeed(response);
        answer(null, response);
      },
      (error: unknown) => {
        answer(entered.fail(error));
      },
    );
  };
}

/**
 * A server-streaming method for grpc-js. `handle` is read only as fast as the caller takes the messages, and left when the
 * caller is gone. A stream that is not complete ends with an error status, never quietly.
 */
export function serverStream<Q, S>(
  method: Method,
  edge: Edge,
  handle: (request: Q, call: Call) => AsyncIterable<S>,
): handleServerStreamingCall<Q, S> {
  return (call) => {
    const entered = new Entered(method, edge, call.request);
    const { signal } = entered.context;
    call.on('cancelled', () => {
      entered.cancel();
    });
    const work = async (): Promise<void> => {
      const leave = edge.admission.enter();
      try {
        method.check(call.request);
        for await (const message of handle(call.request, entered.context)) {
          if (signal.aborted) throw new VolumeError('cancelled', 'the caller has gone');
          if (!call.write(message)) await drained(call, signal);
        }
      } finally {
        leave();
      }
    };
    work().then(
      () => {
        entered.succeed();
        call.end();
      },
      (error: unknown) => {
        call.emit('error', entered.fail(error));
      },
    );
  };
}

/** Resolves when the stream takes more, or the caller has gone. */
async function drained(stream: NodeJS.EventEmitter, signal: AbortSignal): Promise<void> {
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
