/** The certificates that controller and agents use in the cluster, and the calls that failed meanwhile. */
import { X509Certificate } from 'node:crypto';
import { type Role, roles } from '../../../src/tls/roles.ts';
import { eventually } from '../eventually.ts';
import { type KubeObject, textAt } from './api.ts';
import { nodePods, systemNamespace } from './chart.ts';
import { controllerPods } from './controllers.ts';
import { api, kubectl } from './scenario.ts';

/** The kubelet refreshes mounted Secrets about once a minute. */
const refreshedWithinMs = 300_000;

const podsOf: Readonly<Record<Role, { readonly labels: string; readonly container: string }>> = {
  controller: { labels: controllerPods, container: 'controller' },
  agent: { labels: nodePods, container: 'driver' },
};

/** The values of a Secret as texts. */
export async function secretTexts(name: string): Promise<Readonly<Record<string, string>>> {
  const secret = await api.find('Secret', systemNamespace, name);
  const data = (secret?.['data'] ?? {}) as Readonly<Record<string, string>>;
  const decoded = Object.entries(data).map(([key, value]) => [
    key,
    Buffer.from(value, 'base64').toString(),
  ]);
  return Object.fromEntries(decoded) as Readonly<Record<string, string>>;
}

/** Waits until every pod of both roles has the files of its Secret, for example after a renewal. */
export async function untilMounted(secretOf: Readonly<Record<Role, string>>): Promise<void> {
  await eventually(
    'all pods to have their certificates',
    async () => {
      for (const role of roles) {
        const { labels, container } = podsOf[role];
        const texts = await secretTexts(secretOf[role]);
        for (const { metadata } of await api.list('Pod', systemNamespace, labels)) {
          const target = [metadata.name, '--namespace', systemNamespace, '--container', container];
          const files = ['/tls/tls.crt', '/tls/ca.crt'];
          const found = await kubectl('exec', ...target, '--', 'cat', ...files);
          const expected = `${texts['tls.crt'] ?? ''}${texts['ca.crt'] ?? ''}`;
          if (found.trim() !== expected.trim()) {
            throw new Error(`${metadata.name} has an earlier certificate`);
          }
        }
      }
      return true;
    },
    { timeoutMs: refreshedWithinMs, everyMs: 2_000 },
  );
}

/** The serial number of the certificate in a Secret; undefined if it has none. */
export async function serialNumberIn(name: string): Promise<string | undefined> {
  const text = (await secretTexts(name))['tls.crt'];
  return text === undefined ? undefined : new X509Certificate(text).serialNumber;
}

/** The number of authorities in a text of PEM. */
export const countCertificates = (pem = ''): number =>
  pem.split('-----BEGIN CERTIFICATE-----').length - 1;

/** Waits until all controllers are connected to all agents. */
export async function untilAgentsReady(nodes: number): Promise<void> {
  await eventually(
    `every controller to be connected to ${nodes} agents`,
    async () => {
      for (const pod of await api.list('Pod', systemNamespace, controllerPods)) {
        const ready = /^loopcsi_agents\{state="ready"\} (\d+)$/m.exec(await metricsOf(pod))?.[1];
        if (Number(ready) !== nodes)
          throw new Error(`${pod.metadata.name}: ${ready ?? 'none'} are ready`);
      }
      return true;
    },
    { timeoutMs: refreshedWithinMs },
  );
}

/** The calls of the sidecars that the controllers have answered with an error so far, as lines of metrics. */
export async function failedCalls(): Promise<readonly string[]> {
  const pods = await api.list('Pod', systemNamespace, controllerPods);
  const texts = await Promise.all(pods.map(metricsOf));
  return texts
    .flatMap((text) => text.split('\n'))
    .filter((line) => line.startsWith('loopcsi_calls_total{') && !line.includes('code="OK"'))
    .sort();
}

async function metricsOf(pod: KubeObject): Promise<string> {
  const response = await fetch(`http://${textAt(pod, 'status.podIP') ?? ''}:9736/metrics`);
  return response.text();
}
