/**
 * A Kubernetes API server in memory, over HTTP: any collection, optimistic concurrency, watches with bookmarks and a history that
 * can be compacted. Tests make it slow, unavailable, or let it drop connections, before or after a write.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import * as v from 'valibot';
import type { KubeAccess } from '../../src/controller/kube/client.ts';

const objectSchema = v.looseObject({
  metadata: v.looseObject({ name: v.string(), resourceVersion: v.optional(v.string()) }),
});
type Stored = v.InferOutput<typeof objectSchema>;

interface Change {
  readonly version: number;
  readonly collection: string;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: Stored;
}

/** `drop-before` closes the connection without doing the write, `drop-after` after it. */
type Interference = 'drop-before' | 'drop-after' | { readonly status: number };

export class FakeKubeApi {
  readonly #server: Server;
  readonly #objects = new Map<string, Stored>();
  #history: Change[] = [];
  #version = 100;
  /** Versions up to this one are no longer known to watches. */
  #compacted = 0;
  readonly #watches = new Set<{ collection: string; response: ServerResponse }>();
  /** `METHOD PATH?QUERY` of every request. */
  readonly requests: string[] = [];
  /** Every request waits that long. */
  delayMs = 0;
  /** Asked before every request, watches included. */
  interfere: (request: string) => Interference | undefined = () => undefined;
  /** Called between the read of a request and its effect. */
  beforeWrite: (request: string) => void = () => undefined;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<FakeKubeApi> {
    const server = createServer();
    const api = new FakeKubeApi(server);
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      api.#handle(request, response).catch((error: unknown) => {
        response.destroy(error instanceof Error ? error : new Error(String(error)));
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return api;
  }

  get access(): KubeAccess {
    const { port } = this.#server.address() as AddressInfo;
    return { url: `http://127.0.0.1:${port}`, tokenFile: '', caFile: '' };
  }

  get watchCount(): number {
    return this.#watches.size;
  }

  /** Stores an object as another client would: without a check of its version. */
  put(collection: string, object: object): Stored {
    return this.#store(collection, v.parse(objectSchema, structuredClone(object)));
  }

  find(collection: string, name: string): Stored | undefined {
    return this.#objects.get(`${collection}/${name}`);
  }

  /** The objects of a collection. */
  all(collection: string): readonly Stored[] {
    return [...this.#objects]
      .filter(([path]) => path.slice(0, path.lastIndexOf('/')) === collection)
      .map(([, object]) => object);
  }

  remove(collection: string, name: string): void {
    const object = this.#objects.get(`${collection}/${name}`);
    if (object === undefined) return;
    this.#objects.delete(`${collection}/${name}`);
    this.#record('DELETED', collection, object);
  }

  /** Watches from before now get 410. */
  compact(): void {
    this.#compacted = this.#version;
    this.#history = [];
  }

  /** Sends a line to all watches. */
  sendToWatches(line: string): void {
    for (const { response } of this.#watches) response.write(`${line}\n`);
  }

  /** A bookmark of the current version, or an ERROR event. */
  bookmark(): void {
    const object = { kind: 'EndpointSlice', metadata: { resourceVersion: String(this.#version) } };
    this.sendToWatches(JSON.stringify({ type: 'BOOKMARK', object }));
  }

  /** Ends all watches as the server does at their time limit. */
  endWatches(): void {
    for (const { response } of this.#watches) response.end();
    this.#watches.clear();
  }

  dropConnections(): void {
    this.#watches.clear();
    this.#server.closeAllConnections();
  }

  async stop(): Promise<void> {
    this.dropConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Listens at the same address again, after `stop`. */
  async restart(port: number): Promise<void> {
    this.#server.listen(port, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = request;
    const name = `${method} ${url}`;
    this.requests.push(name);
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    if (this.delayMs > 0) await delay(this.delayMs);
    const interference = this.interfere(name);
    if (interference === 'drop-before') {
      request.socket.destroy();
      return;
    }
    if (typeof interference === 'object') {
      reply(response, interference.status, statusOf(interference.status, 'as the test wants it'));
      return;
    }
    const { pathname, searchParams } = new URL(url, 'http://fake');
    if (searchParams.get('watch') === 'true') {
      this.#watch(pathname, Number(searchParams.get('resourceVersion')), response);
      return;
    }
    if (method !== 'GET') this.beforeWrite(name);
    const [status, body] = this.#answer(method, pathname, Buffer.concat(chunks).toString());
    if (interference === 'drop-after') request.socket.destroy();
    else reply(response, status, body);
  }

  #answer(method: string, path: string, text: string): readonly [number, object] {
    const stored = this.#objects.get(path);
    if (method === 'GET' && stored !== undefined) return [200, stored];
    if (method === 'GET' && (/\/namespaces\/[^/]+\/[^/]+$/.test(path) || path === volumes))
      return [200, this.#list(path)];
    if (method === 'GET') return [404, statusOf(404, `${path} not found`)];
    const object = v.parse(objectSchema, JSON.parse(text));
    if (method === 'POST') {
      const exists = this.#objects.has(`${path}/${object.metadata.name}`);
      if (exists) return [409, statusOf(409, 'already exists')];
      return [201, this.#store(path, object)];
    }
    if (stored === undefined) return [404, statusOf(404, `${path} not found`)];
    if (object.metadata.resourceVersion !== stored.metadata.resourceVersion) {
      return [409, statusOf(409, 'the object has been modified')];
    }
    return [200, this.#store(path.slice(0, path.lastIndexOf('/')), object)];
  }

  #list(collection: string): object {
    const items = this.all(collection);
    return { metadata: { resourceVersion: String(this.#version) }, items };
  }

  #store(collection: string, object: Stored): Stored {
    const path = `${collection}/${object.metadata.name}`;
    const type = this.#objects.has(path) ? 'MODIFIED' : 'ADDED';
    const resourceVersion = String(this.#version + 1);
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion } };
    this.#objects.set(path, stored);
    this.#record(type, collection, stored);
    return stored;
  }

  #record(type: Change['type'], collection: string, object: Stored): void {
    this.#version += 1;
    const resourceVersion = String(this.#version);
    const versioned = { ...object, metadata: { ...object.metadata, resourceVersion } };
    const change: Change = { version: this.#version, collection, type, object: versioned };
    this.#history.push(change);
    for (const watch of this.#watches) {
      if (watch.collection === collection) watch.response.write(lineOf(change));
    }
  }

  #watch(collection: string, from: number, response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    if (from < this.#compacted) {
      const object = statusOf(410, 'too old resource version');
      response.end(`${JSON.stringify({ type: 'ERROR', object })}\n`);
      return;
    }
    for (const change of this.#history) {
      if (change.collection === collection && change.version > from) response.write(lineOf(change));
    }
    const watch = { collection, response };
    this.#watches.add(watch);
    response.on('close', () => {
      this.#watches.delete(watch);
    });
  }
}

/** A collection without a namespace that the controller lists. */
const volumes = '/api/v1/persistentvolumes';

const lineOf = ({ type, object }: Change): string => `${JSON.stringify({ type, object })}\n`;

const statusOf = (code: number, message: string): object => ({
  kind: 'Status',
  status: 'Failure',
  code,
  message,
});

function reply(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
