// The Kubernetes API by node's own fetch, as the pod's service account. NODE_EXTRA_CA_CERTS names the cluster's authority.
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';

const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = process.env;
const base = `https://${host.includes(':') ? `[${host}]` : host}:${port}`;
const tokenFile = '/var/run/secrets/kubernetes.io/serviceaccount/token';

/** Answers the object, or undefined where there is none. Other refusals throw with the server's words. */
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
  const answer = await response.json();
  if (response.status === 404) return undefined;
  if (!response.ok) throw new Error(`${method} ${path}: ${answer.message ?? response.statusText}`);
  return answer;
}

/** Looks every half second until there is something to answer, or `seconds` have passed (undefined). */
export async function until(seconds, look) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await pause(500)) {
    const found = await look();
    if (found !== undefined) return found;
  }
  return undefined;
}
