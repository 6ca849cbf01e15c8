/**
 * The few calls of the Kubernetes API that the controller makes, over node:https (docs/decisions/0019). Tokens and CA bundles of
 * pods are replaced while the process runs, so they are read for every request.
 */
import { readFile } from 'node:fs/promises';
import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import * as v from 'valibot';
import { messageOf, VolumeError } from '../../errors.ts';

/** How the API server is reached. */
export interface KubeAccess {
  /** https://HOST:PORT. With http:, neither file is read. */
  readonly url: string;
  readonly tokenFile: string;
  readonly caFile: string;
}

const serviceAccountDirectory = '/var/run/secrets/kubernetes.io/serviceaccount';

/** Access of a pod with a service account. Throws `invalid` outside of a cluster. */
export function inClusterAccess(
  variables: Readonly<Record<string, string | undefined>>,
): KubeAccess {
  const { KUBERNETES_SERVICE_HOST: host = '', KUBERNETES_SERVICE_PORT: port = '' } = variables;
  if (host === '' || port === '') {
    throw new VolumeError(
      'invalid',
      'KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, so there is no Kubernetes API to ask: run in a pod, or use --agents dns:// or static:',
    );
  }
  return {
    url: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    tokenFile: `${serviceAccountDirectory}/token`,
    caFile: `${serviceAccountDirectory}/ca.crt`,
  };
}

/** An error response of the API server. */
export class KubeError extends Error {
  /** HTTP status: 404 no such object, 409 exists or was changed meanwhile, 410 a resourceVersion that is too old. */
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = 'KubeError';
    this.status = status;
  }
}

export const hasStatus = (error: unknown, status: number): boolean =>
  error instanceof KubeError && error.status === status;

const objectSchema = v.looseObject({
  metadata: v.looseObject({
    name: v.string(),
    namespace: v.optional(v.string()),
    resourceVersion: v.optional(v.string()),
    annotations: v.optional(v.record(v.string(), v.string())),
  }),
});
export type KubeObject = v.InferOutput<typeof objectSchema>;

export const decodeObject = (value: unknown): KubeObject => v.parse(objectSchema, value);

/** Objects to write need no `resourceVersion` when they are created. */
export interface KubeClient {
  /** Throws KubeError, or an error of the connection. */
  readonly get: (path: string) => Promise<unknown>;
  /** Creates an object in the collection `path`; KubeError 409 if it exists. */
  readonly create: (path: string, body: object) => Promise<KubeObject>;
  /** Replaces the object at `path`; KubeError 409 if `metadata.resourceVersion` is no longer its version. */
  readonly replace: (path: string, body: object) => Promise<KubeObject>;
  /** The events of a watch, until the server ends it. An abort ends it with an error. */
  readonly watch: (path: string, signal: AbortSignal) => AsyncIterable<unknown>;
  /** Closes idle connections. */
  readonly close: () => void;
}

/** A call that takes longer has failed. */
const callTimeoutMs = 15_000;
/** More than a list of all endpoints of 10,000 nodes. */
const maxResponseBytes = 64 * 1024 * 1024;

interface Call {
  readonly method: 'GET' | 'POST' | 'PUT';
  readonly path: string;
  readonly body?: object;
  readonly signal: AbortSignal;
}

export function makeKubeClient(
  access: KubeAccess,
  { timeoutMs = callTimeoutMs }: { readonly timeoutMs?: number } = {},
): KubeClient {
  const isPlain = access.url.startsWith('http:');
  // Keep-alive probes detect a server that has disappeared without closing its connections.
  const settings = { keepAlive: true, keepAliveMsecs: 15_000 };
  const agent = isPlain ? new HttpAgent(settings) : new HttpsAgent(settings);
  const send = async (call: Call): Promise<IncomingMessage> => {
    const credentials = isPlain ? {} : await readCredentials(access);
    return respond(access.url, agent, call, credentials);
  };
  const answer = async (method: Call['method'], path: string, body?: object): Promise<unknown> => {
    const signal = AbortSignal.timeout(timeoutMs);
    const call = { method, path, signal, ...(body === undefined ? {} : { body }) };
    const text = await withMeaning(call, timeoutMs, async () => readAll(await send(call)));
    return JSON.parse(text) as unknown;
  };
  return {
    get: (path) => answer('GET', path),
    create: async (path, body) => decodeObject(await answer('POST', path, body)),
    replace: async (path, body) => decodeObject(await answer('PUT', path, body)),
    async *watch(path, signal) {
      const response = await send({ method: 'GET', path, signal });
      yield* readLines(response);
    },
    close: () => {
      agent.destroy();
    },
  };
}

/** The failure of a connection that had been idle. */
class StaleConnection extends Error {
  constructor(cause: Error) {
    super(cause.message, { cause });
    this.name = 'StaleConnection';
  }
}

interface Credentials {
  readonly token?: string;
  readonly ca?: string;
}

async function readCredentials({ tokenFile, caFile }: KubeAccess): Promise<Credentials> {
  const [token, ca] = await Promise.all([readFile(tokenFile, 'utf8'), readFile(caFile, 'utf8')]);
  return { token: token.trim(), ca };
}

/** Sends the call and returns the response, once its header has arrived. Throws KubeError for the status of a failure. */
async function respond(
  url: string,
  agent: HttpAgent | HttpsAgent,
  { method, path, body, signal }: Call,
  { token, ca }: Credentials,
): Promise<IncomingMessage> {
  const payload = body === undefined ? undefined : JSON.stringify(body);
  const options = {
    method,
    signal,
    headers: {
      accept: 'application/json',
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(payload === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
    },
    ...(ca === undefined ? {} : { ca }),
  };
  const request = url.startsWith('http:') ? requestHttp : requestHttps;
  const attempt = (connections: typeof agent | false): Promise<IncomingMessage> =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const sent = request(`${url}${path}`, { ...options, agent: connections }, resolve);
      sent.on('error', (error) => {
        reject(sent.reusedSocket && !signal.aborted ? new StaleConnection(error) : error);
      });
      sent.end(payload);
    });
  // The server may close an idle connection at the moment of its reuse. Repeating a write is safe: it has a resourceVersion, or
  // finds the object that it created.
  const response = await attempt(agent).catch((error: unknown) => {
    if (error instanceof StaleConnection) return attempt(false);
    throw error;
  });
  const status = response.statusCode ?? 0;
  if (status >= 200 && status < 300) return response;
  throw new KubeError(status, `${method} ${path}: ${reasonOf(await readAll(response), status)}`);
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxResponseBytes) throw new Error(`the response exceeds ${maxResponseBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** One JSON value per line. A line without its end was cut off with the connection, and is dropped. */
async function* readLines(response: IncomingMessage): AsyncIterable<unknown> {
  let rest = '';
  response.setEncoding('utf8');
  for await (const chunk of response as AsyncIterable<string>) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > maxResponseBytes) {
      throw new Error(`an event of a watch exceeds ${maxResponseBytes} characters`);
    }
    for (const line of lines) if (line !== '') yield JSON.parse(line) as unknown;
  }
}

const statusSchema = v.object({ message: v.string() });

/** The message of a Status object; proxies answer with other texts. */
function reasonOf(text: string, status: number): string {
  try {
    return v.parse(statusSchema, JSON.parse(text)).message;
  } catch {
    return `HTTP status ${status}`;
  }
}

/** Replaces the error of an abort, which says nothing, by one that names the call. */
async function withMeaning<T>(
  { method, path, signal }: Call,
  timeoutMs: number,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof KubeError) throw error;
    const what = signal.aborted ? `no answer within ${timeoutMs} ms` : messageOf(error);
    throw new Error(`${method} ${path}: ${what}`, { cause: error });
  }
}
