import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Duplex, pipeline, Readable } from 'node:stream';
import zlib from 'node:zlib';

/** Thrown if data cannot be compressed or decompressed. */
export class ZstdError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ZstdError';
  }
}

type Direction = 'compress' | 'decompress';

/** `@types/node` is of the oldest supported Node. Node has zstd since 22.15 and 23.8. */
interface ZlibWithZstd {
  readonly createZstdCompress?: () => Duplex;
  readonly createZstdDecompress?: () => Duplex;
}

/**
 * Compresses or decompresses a stream, with Node's zstd or else the program `zstd`. `usesProgram` is for tests. Throws `ZstdError`
 * for damaged data, and if neither exists.
 */
export async function* zstd(
  direction: Direction,
  source: AsyncIterable<Uint8Array>,
  { usesProgram = false }: { readonly usesProgram?: boolean } = {},
): AsyncGenerator<Buffer> {
  const node = usesProgram ? {} : (zlib as unknown as ZlibWithZstd);
  const make = direction === 'compress' ? node.createZstdCompress : node.createZstdDecompress;
  if (make === undefined) {
    yield* throughProgram(direction, source);
    return;
  }
  const coder = make();
  // A failure of the source destroys the coder with that error.
  pipeline(Readable.from(source), coder, () => undefined);
  try {
    for await (const chunk of coder as AsyncIterable<Buffer>) yield chunk;
  } catch (error) {
    throw isCoderError(error)
      ? new ZstdError(`the stream is not valid zstd data: ${error.message}`, { cause: error })
      : error;
  }
}

function isCoderError(error: unknown): error is Error {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    /^(?:ZSTD_|Z_|ERR_ZSTD)/.test(error.code)
  );
}

async function* throughProgram(
  direction: Direction,
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<Buffer> {
  const args = ['--quiet', '--stdout', ...(direction === 'compress' ? [] : ['--decompress'])];
  const child = spawn('zstd', args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = `${stderr}${text}`.slice(-1000);
  });
  const ended = once(child, 'close');
  ended.catch(() => undefined);
  let sourceError: unknown;
  pipeline(Readable.from(source), child.stdin, (error) => {
    // EPIPE means that the program ended; its exit code says why.
    if (error !== null && error !== undefined && error.code !== 'EPIPE') sourceError = error;
  });
  try {
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) yield chunk;
    const [exitCode] = (await ended.catch((error: unknown) => {
      throw missingError(error);
    })) as [number | null];
    if (sourceError instanceof Error) throw sourceError;
    if (exitCode !== 0) {
      throw new ZstdError(`zstd exited with code ${exitCode ?? 'none'}: ${stderr.trim()}`);
    }
  } finally {
    child.kill('SIGKILL');
  }
}

function missingError(cause: unknown): ZstdError {
  return new ZstdError(
    `this Node (${process.version}) has no zstd and the program zstd cannot be started: install it (Debian: apt-get install zstd), use Node 22.15 or later, or choose --format raw`,
    { cause },
  );
}
