// Calls the Kubernetes API with Node's fetch, as the pod's service account. NODE_EXTRA_CA_CERTS names the cluster's CA.
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';

const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = process.env;
const base = `https://${host.includes(':') ? `[${host}]` : host}:${port}`;
const tokenFile = '/var/run/secrets/kubernetes.io/serviceaccount/token';

/** Returns the object, or undefined if it does not exist. Throws other errors with the server's message. */
export async function api(method, path, body) {
  const token = await readFile(tokenFile, 'utf8');
  const response = await fetch(base + path, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json',
    },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(15_000),
  });
  const result = await response.json();
  if (response.status === 404) return undefined;
  if (!response.ok) throw new Error(`${method} ${path}: ${result.message ?? response.statusText}`);
  return result;
}

/** Polls every half second until `find` returns a value. Returns undefined if it does not within `seconds`. */
export async function until(seconds, find) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await pause(500)) {
    const found = await find();
    if (found !== undefined) return found;
  }
  return undefined;
}
