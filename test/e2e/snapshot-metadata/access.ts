/** What the stand-in asks the API server: who has a token, whether that user may read snapshots, and which handle a snapshot has. */
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { text } from 'node:stream/consumers';
import { status } from '@grpc/grpc-js';
import * as v from 'valibot';

/** Ends a call with a code of gRPC. */
export class Refusal extends Error {
  readonly code: status;
  readonly details: string;

  constructor(code: status, details: string) {
    super(details);
    this.code = code;
    this.details = details;
  }
}

const account = '/var/run/secrets/kubernetes.io/serviceaccount';

/** A request with the token of the pod. undefined: there is no such object. */
async function ask(method: 'GET' | 'POST', path: string, body?: object): Promise<unknown> {
  const [token, ca] = await Promise.all([
    readFile(`${account}/token`, 'utf8'),
    readFile(`${account}/ca.crt`),
  ]);
  const { KUBERNETES_SERVICE_HOST: host = '', KUBERNETES_SERVICE_PORT: port = '' } = process.env;
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const [code, answer] = await new Promise<[number, string]>((resolve, reject) => {
    const sent = request({ host, port, ca, method, path, headers }, (response) => {
      text(response).then((all) => {
        resolve([response.statusCode ?? 0, all]);
      }, reject);
    });
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
  if (code === 404) return undefined;
  if (code >= 300) throw new Refusal(status.UNAVAILABLE, `${method} ${path}: ${code} ${answer}`);
  return JSON.parse(answer) as unknown;
}

const reviewSchema = v.object({
  status: v.object({
    authenticated: v.optional(v.boolean(), false),
    audiences: v.optional(v.array(v.string()), []),
    user: v.optional(v.record(v.string(), v.unknown()), {}),
  }),
});
const accessSchema = v.object({ status: v.object({ allowed: v.boolean() }) });

/** Throws UNAUTHENTICATED, or PERMISSION_DENIED if the user of the token may not read VolumeSnapshots of the namespace. */
export async function authorize(token: string, audience: string, namespace: string): Promise<void> {
  const tokenReview = { spec: { token, audiences: [audience] } };
  const reviewed = v.parse(
    reviewSchema,
    await ask('POST', '/apis/authentication.k8s.io/v1/tokenreviews', tokenReview),
  ).status;
  if (!reviewed.authenticated || !reviewed.audiences.includes(audience)) {
    throw new Refusal(status.UNAUTHENTICATED, `the token is not one for audience '${audience}'`);
  }
  const { username, uid, groups, extra } = reviewed.user;
  const group = 'snapshot.storage.k8s.io';
  const resourceAttributes = { verb: 'get', namespace, group, resource: 'volumesnapshots' };
  const accessReview = { spec: { user: username, uid, groups, extra, resourceAttributes } };
  const { allowed } = v.parse(
    accessSchema,
    await ask('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', accessReview),
  ).status;
  if (!allowed) {
    throw new Refusal(
      status.PERMISSION_DENIED,
      `${String(username)} may not read VolumeSnapshots of namespace '${namespace}'`,
    );
  }
}

const snapshotSchema = v.object({
  status: v.object({ boundVolumeSnapshotContentName: v.string(), readyToUse: v.literal(true) }),
});
const contentSchema = v.object({
  spec: v.object({ driver: v.string() }),
  status: v.object({ snapshotHandle: v.string(), readyToUse: v.literal(true) }),
});

/** The CSI handle of a VolumeSnapshot. Throws NOT_FOUND, UNAVAILABLE until it is ready, INVALID_ARGUMENT for another driver's. */
export async function handleOf(
  namespace: string,
  name: string,
  driverName: string,
): Promise<string> {
  const api = '/apis/snapshot.storage.k8s.io/v1';
  const path = `${api}/namespaces/${namespace}/volumesnapshots/${name}`;
  const snapshot = await ask('GET', path);
  if (snapshot === undefined) {
    throw new Refusal(status.NOT_FOUND, `there is no VolumeSnapshot '${namespace}/${name}'`);
  }
  const bound = v.safeParse(snapshotSchema, snapshot);
  const content = bound.success
    ? await ask(
        'GET',
        `${api}/volumesnapshotcontents/${bound.output.status.boundVolumeSnapshotContentName}`,
      )
    : undefined;
  const ready = v.safeParse(contentSchema, content);
  if (!ready.success) {
    throw new Refusal(status.UNAVAILABLE, `VolumeSnapshot '${name}' is not ready`);
  }
  if (ready.output.spec.driver !== driverName) {
    throw new Refusal(status.INVALID_ARGUMENT, `VolumeSnapshot '${name}' is of another driver`);
  }
  return ready.output.status.snapshotHandle;
}
