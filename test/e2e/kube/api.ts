/** The cluster's API as its administrator. Works inside the cluster's network namespace, where the tests run. */
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import * as v from 'valibot';
import { eventually } from '../eventually.ts';

/** Any object of the API; tests read its fields with `textAt`. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string | undefined;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

const objectSchema: v.GenericSchema<unknown, KubeObject> = v.looseObject({
  apiVersion: v.string(),
  kind: v.string(),
  metadata: v.looseObject({ name: v.string(), namespace: v.optional(v.string()) }),
});
const listSchema = v.looseObject({ items: v.array(v.record(v.string(), v.unknown())) });

const snapshots = 'snapshot.storage.k8s.io/v1';
const groupSnapshots = 'groupsnapshot.storage.k8s.io/v1';

/** apiVersion, plural, and whether the kind is namespaced. */
const resources = {
  CSINode: ['storage.k8s.io/v1', 'csinodes', false],
  CSIStorageCapacity: ['storage.k8s.io/v1', 'csistoragecapacities', true],
  DaemonSet: ['apps/v1', 'daemonsets', true],
  Deployment: ['apps/v1', 'deployments', true],
  Event: ['v1', 'events', true],
  Lease: ['coordination.k8s.io/v1', 'leases', true],
  Namespace: ['v1', 'namespaces', false],
  Node: ['v1', 'nodes', false],
  PersistentVolume: ['v1', 'persistentvolumes', false],
  PersistentVolumeClaim: ['v1', 'persistentvolumeclaims', true],
  Pod: ['v1', 'pods', true],
  Secret: ['v1', 'secrets', true],
  Service: ['v1', 'services', true],
  StatefulSet: ['apps/v1', 'statefulsets', true],
  StorageClass: ['storage.k8s.io/v1', 'storageclasses', false],
  VolumeAttributesClass: ['storage.k8s.io/v1', 'volumeattributesclasses', false],
  VolumeGroupSnapshot: [groupSnapshots, 'volumegroupsnapshots', true],
  VolumeGroupSnapshotContent: [groupSnapshots, 'volumegroupsnapshotcontents', false],
  VolumeSnapshot: [snapshots, 'volumesnapshots', true],
  VolumeSnapshotContent: [snapshots, 'volumesnapshotcontents', false],
} as const;
export type Kind = keyof typeof resources;

export const apiVersionOf = (kind: Kind): string => resources[kind][0];

/** An error response of the API server, with its message. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
  }
}

export class Api {
  readonly #agent: Agent;
  #sent = 0;

  /** Requests sent so far by this client. */
  get sentCount(): number {
    return this.#sent;
  }

  constructor(pki: string) {
    this.#agent = new Agent({
      keepAlive: true,
      ca: readFileSync(join(pki, 'ca.crt')),
      cert: readFileSync(join(pki, 'admin.crt')),
      key: readFileSync(join(pki, 'admin.key')),
    });
  }

  async create(kind: Kind, namespace: string, body: object): Promise<KubeObject> {
    const object = { apiVersion: apiVersionOf(kind), kind, ...body };
    return v.parse(objectSchema, await this.call('POST', pathOf(kind, namespace), object));
  }

  /** undefined if there is no object with that name. */
  async find(kind: Kind, namespace: string, name: string): Promise<KubeObject | undefined> {
    try {
      return v.parse(objectSchema, await this.call('GET', pathOf(kind, namespace, name)));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  async list(kind: Kind, namespace = '', labelSelector = ''): Promise<readonly KubeObject[]> {
    const query = labelSelector === '' ? '' : `?labelSelector=${encodeURIComponent(labelSelector)}`;
    const list = v.parse(listSchema, await this.call('GET', pathOf(kind, namespace) + query));
    const apiVersion = apiVersionOf(kind);
    return list.items.map((item) => v.parse(objectSchema, { ...item, apiVersion, kind }));
  }

  /** Merges `body` into the object. */
  async patch(kind: Kind, namespace: string, name: string, body: object): Promise<void> {
    await this.call('PATCH', pathOf(kind, namespace, name), body, 'application/merge-patch+json');
  }

  /** Does nothing if the object does not exist. */
  async delete(kind: Kind, namespace: string, name: string, options: object = {}): Promise<void> {
    try {
      await this.call('DELETE', pathOf(kind, namespace, name), options);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
    }
  }

  /** Waits until `holds` is true for the object; the error shows the last status of the object. */
  async until(
    kind: Kind,
    namespace: string,
    name: string,
    holds: (object: KubeObject) => boolean,
    options: { readonly timeoutMs?: number; readonly everyMs?: number } = {},
  ): Promise<KubeObject> {
    return eventually(
      `${kind} ${namespace}/${name}`,
      async () => {
        const object = await this.find(kind, namespace, name);
        if (object !== undefined && holds(object)) return object;
        throw new Error(JSON.stringify(object?.['status'] ?? 'it does not exist'));
      },
      { everyMs: 200, ...options },
    );
  }

  async untilGone(kind: Kind, namespace: string, name: string, timeoutMs = 60_000): Promise<void> {
    await eventually(
      `${kind} ${namespace}/${name} to be gone`,
      async () => ((await this.find(kind, namespace, name)) === undefined ? true : undefined),
      { timeoutMs },
    );
  }

  async call(
    method: string,
    path: string,
    body?: object,
    contentType = 'application/json',
  ): Promise<unknown> {
    this.#sent += 1;
    const text = await new Promise<string>((resolve, reject) => {
      const payload = body === undefined ? '' : JSON.stringify(body);
      // Node sends the body of a DELETE without its length.
      const length = { 'content-type': contentType, 'content-length': Buffer.byteLength(payload) };
      const headers = body === undefined ? {} : length;
      const url = `https://127.0.0.1:6443${path}`;
      const sent = request(url, { method, agent: this.#agent, headers }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const answer = Buffer.concat(chunks).toString();
          const status = response.statusCode ?? 0;
          if (status < 400) resolve(answer);
          else reject(new ApiError(status, `${method} ${path}: ${messageOf(answer)}`));
        });
      });
      sent.on('error', reject);
      sent.end(payload);
    });
    return text.startsWith('{') ? (JSON.parse(text) as unknown) : text;
  }
}

function pathOf(kind: Kind, namespace: string, name = ''): string {
  const [apiVersion, plural, isNamespaced] = resources[kind];
  const group = apiVersion === 'v1' ? '/api/v1' : `/apis/${apiVersion}`;
  const scope = isNamespaced && namespace !== '' ? `/namespaces/${namespace}` : '';
  return `${group}${scope}/${plural}${name === '' ? '' : `/${name}`}`;
}

function messageOf(answer: string): string {
  const status = v.safeParse(v.object({ message: v.string() }), tryJson(answer));
  return status.success ? status.output.message : answer;
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The value at a dotted path (`status.containerStatuses.0.ready`), as text; undefined if there is none. */
export function textAt(object: unknown, path: string): string | undefined {
  let at = object;
  for (const key of path.split('.')) {
    if (typeof at !== 'object' || at === null) return undefined;
    at = new Map(Object.entries(at)).get(key);
  }
  if (at === undefined || at === null) return undefined;
  return typeof at === 'string' ? at : JSON.stringify(at);
}
