/** Reads the data of a source from another agent. */
import type { ConnectOpts } from 'node:net';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { status } from '@grpc/grpc-js';
import { messageOf } from '../../errors.ts';
import { agentConnectionOptions } from '../../tls/agent-channel.ts';
import type { Credentials } from '../../tls/credentials.ts';
import type { End, Piece } from '../../volumes/model.ts';
import type { Keepalive } from '../grpc-server.ts';
import { StatusError } from '../status.ts';
import { type DataRequest, encodeRequest } from './data-request.ts';
import {
  aliveFrame,
  dataProtocol,
  encodeFrame,
  type Frame,
  FrameDecoder,
  maxPieceBytes,
} from './frames.ts';
import { signsOfLife } from './keepalive.ts';

export interface Reading {
  /** HOST:PORT of the agent. */
  readonly address: string;
  readonly credentials: Credentials;
  readonly driverName: string;
  readonly ticket: string;
  readonly wanted: DataRequest;
  readonly keepalive: Keepalive;
  readonly signal: AbortSignal;
}

/** What is decrypted at once. */
const receiveBytes = 64 * 1024;

/**
 * Yields the pieces and, as the last step, their end; without it if the connection ends early. Throws a StatusError: that of the other agent, or
 * UNAVAILABLE if it is lost.
 */
export async function* readPieces(reading: Reading): AsyncGenerator<Piece | End> {
  const frames = new ReceivedFrames(reading);
  /** The piece before the last one, whose memory is still in use. */
  let previous: Frame | undefined;
  try {
    for (;;) {
      const frame = await frames.next();
      if (frame === undefined) return;
      const step = stepOf(frame);
      if (step === undefined) continue;
      yield step;
      if ('sizeBytes' in step) return;
      if (previous !== undefined) frames.release(previous);
      previous = frame;
    }
  } finally {
    frames.close();
  }
}

function stepOf({ kind, value, digest, body }: Frame): Piece | End | undefined {
  switch (kind) {
    case 'data':
      return { offset: value, data: body, digest };
    case 'end':
      return { sizeBytes: value, digest };
    case 'failure':
      throw new StatusError(Number(value), body.toString());
    case 'alive':
      return undefined;
    case 'request':
      throw new StatusError(status.INTERNAL, 'the other agent sent a request');
  }
}

/** The frames of a connection, which is paused while some of them wait. */
class ReceivedFrames {
  readonly #decoder = new FrameDecoder({ maxBodyBytes: maxPieceBytes });
  readonly #socket: TLSSocket;
  readonly #silentMs: number;
  readonly #alive: NodeJS.Timeout;
  readonly #waiting: Frame[] = [];
  readonly #signal: AbortSignal;
  readonly #cancel = (): void => this.#fail('the copy was cancelled');
  #silence: NodeJS.Timeout | undefined;
  /** Why there are no more frames. */
  #failure: StatusError | undefined;
  #hasEnded = false;
  #wake: () => void = () => undefined;

  constructor({ address, credentials, driverName, ticket, wanted, keepalive, signal }: Reading) {
    const { sendMs, silentMs } = signsOfLife(keepalive);
    this.#silentMs = silentMs;
    const received = Buffer.allocUnsafeSlow(receiveBytes);
    const at = address.lastIndexOf(':');
    const options: ConnectionOptions & ConnectOpts = {
      ...agentConnectionOptions(credentials.context, driverName),
      host: address.slice(0, at).replace(/^\[|\]$/g, ''),
      port: Number(address.slice(at + 1)),
      ALPNProtocols: [dataProtocol],
      // Without it, each record of TLS, at most 16 KiB, would get a buffer of its own.
      onread: {
        buffer: received,
        callback: (length) => this.#take(received.subarray(0, length)),
      },
    };
    this.#socket = connect(options)
      .setNoDelay()
      .on('error', (error) => this.#fail(`the connection failed: ${messageOf(error)}`))
      .on('close', () => this.#end());
    this.#socket.write(encodeFrame({ kind: 'request', body: encodeRequest(wanted, ticket) }));
    this.#alive = setInterval(() => this.#socket.write(aliveFrame), sendMs);
    this.#signal = signal;
    signal.addEventListener('abort', this.#cancel);
    if (signal.aborted) this.#cancel();
  }

  /** The next frame; undefined if the connection has ended. Throws a StatusError if it failed, or sent nothing for long. */
  async next(): Promise<Frame | undefined> {
    while (this.#waiting.length === 0 && this.#failure === undefined && !this.#hasEnded) {
      this.#socket.resume();
      // Only here: while nothing is read, the other agent cannot be heard.
      this.#silence = setTimeout(
        () => this.#fail(`it sent nothing for ${this.#silentMs} ms`),
        this.#silentMs,
      );
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      clearTimeout(this.#silence);
    }
    const frame = this.#waiting.shift();
    if (frame === undefined && this.#failure !== undefined) throw this.#failure;
    return frame;
  }

  release(frame: Frame): void {
    this.#decoder.release(frame);
  }

  close(): void {
    clearInterval(this.#alive);
    clearTimeout(this.#silence);
    this.#signal.removeEventListener('abort', this.#cancel);
    this.#socket.destroy();
  }

  /** Returns whether more may follow at once. */
  #take(bytes: Buffer): boolean {
    this.#silence?.refresh();
    try {
      this.#waiting.push(...this.#decoder.decode(bytes));
    } catch (error) {
      this.#fail(error);
    }
    if (this.#waiting.length === 0) return true;
    this.#wake();
    return false;
  }

  #fail(why: unknown): void {
    this.#failure ??=
      why instanceof StatusError ? why : new StatusError(status.UNAVAILABLE, String(why));
    this.#socket.destroy();
    this.#wake();
  }

  #end(): void {
    this.#hasEnded = true;
    this.#wake();
  }
}
