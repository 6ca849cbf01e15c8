/** One scenario: its own namespace, the steps of a test in it, and the information that is kept if it fails. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import * as v from 'valibot';
import { attempt, run } from '../../../scripts/command.ts';
import { scaledMs } from '../../helpers/slowness.ts';
import { projectRoot } from '../cluster/cache.ts';
import { Cluster } from '../cluster/cluster.ts';
import type { Layout } from '../cluster/layout.ts';
import type { ClusterNode } from '../cluster/node.ts';
import { clusterPrograms } from '../cluster/programs.ts';
import { eventually } from '../eventually.ts';
import { Api, type Kind, type KubeObject, textAt } from './api.ts';
import { release } from './chart.ts';
import { type ClaimOptions, claim, type PodOptions, pod } from './objects.ts';

/** Set by run.ts: the directory of the cluster under test. */
export const stateVariable = 'LOOPCSI_E2E_STATE';

export const programs = await clusterPrograms();
export const cluster = await Cluster.find(process.env[stateVariable] ?? '', programs);
export const layout: Layout = cluster.layout;
export const firstNode: ClusterNode = cluster.node(layout.nodes[0]?.name ?? '');
export const api = new Api(layout.pki);

export const environment = { KUBECONFIG: layout.kubeconfig, HELM_CACHE_HOME: layout.state };

/** Longer than any `--timeout` that a scenario gives to a program. */
const longestCommandMs = scaledMs(360_000);

export async function kubectl(...args: readonly string[]): Promise<string> {
  return run(join(programs, 'kubectl'), args, { env: environment, timeoutMs: longestCommandMs });
}

/** kubectl's plugin, as an operator calls it: `kubectl loopcsi …`. */
export async function kubectlLoopcsi(...args: readonly string[]): Promise<string> {
  const path = `${programs}:${process.env['PATH'] ?? ''}`;
  return run(join(projectRoot, 'bin', 'kubectl-loopcsi'), args, {
    env: { ...environment, PATH: path },
    timeoutMs: longestCommandMs,
  });
}

export async function helm(args: readonly string[], input = ''): ReturnType<typeof attempt> {
  return attempt(join(programs, 'helm'), args, {
    env: environment,
    input,
    timeoutMs: longestCommandMs,
  });
}

export class Scenario {
  readonly namespace: string;

  private constructor(namespace: string) {
    this.namespace = namespace;
  }

  /** Creates the namespace. At the end of the test it is deleted without waiting; after a failure its state and events are kept. */
  static async begin(t: ExecutionContext, namespace: string): Promise<Scenario> {
    await api.create('Namespace', '', { metadata: { name: namespace } });
    const scenario = new Scenario(namespace);
    t.teardown(async () => {
      if (!t.passed) t.log(await scenario.#keepState());
      await api.delete('Namespace', '', namespace);
    });
    await eventually('the service account of the namespace', async () => {
      const path = `/api/v1/namespaces/${namespace}/serviceaccounts/default`;
      return (await api.call('GET', path).catch(() => undefined)) === undefined ? undefined : true;
    });
    return scenario;
  }

  async create(kind: Kind, body: object): Promise<KubeObject> {
    return api.create(kind, this.namespace, body);
  }

  async claim(name: string, options: ClaimOptions = {}): Promise<void> {
    await this.create('PersistentVolumeClaim', claim(name, options));
  }

  async pod(name: string, options: PodOptions = {}): Promise<void> {
    await this.create('Pod', pod(name, options));
  }

  /** Creates a snapshot of the claim and waits until it can be restored. */
  async snapshot(name: string, claimName: string): Promise<void> {
    await this.create('VolumeSnapshot', {
      metadata: { name },
      spec: { volumeSnapshotClassName: release, source: { persistentVolumeClaimName: claimName } },
    });
    const isReadyToUse = (one: KubeObject): boolean => textAt(one, 'status.readyToUse') === 'true';
    await this.until('VolumeSnapshot', name, isReadyToUse, 90_000);
  }

  /** Creates a pod and waits until it is ready: its volumes are mounted and its script has succeeded. */
  async readyPod(name: string, options: PodOptions = {}, timeoutMs = 90_000): Promise<KubeObject> {
    await this.pod(name, options);
    return this.untilReady(name, timeoutMs);
  }

  async untilReady(name: string, timeoutMs = 90_000): Promise<KubeObject> {
    return this.until('Pod', name, isReady, timeoutMs);
  }

  async until(
    kind: Kind,
    name: string,
    holds: (object: KubeObject) => boolean,
    timeoutMs = 60_000,
  ): Promise<KubeObject> {
    return api.until(kind, this.namespace, name, holds, { timeoutMs });
  }

  async get(kind: Kind, name: string): Promise<KubeObject> {
    return this.until(kind, name, () => true, 1_000);
  }

  async delete(kind: Kind, name: string): Promise<void> {
    await api.delete(kind, this.namespace, name);
    await api.untilGone(kind, this.namespace, name);
  }

  /** Runs a shell in the pod and returns its trimmed output. Throws if it fails. */
  async sh(podName: string, script: string): Promise<string> {
    const target = ['--namespace', this.namespace, podName, '--'];
    return (await kubectl('exec', ...target, 'sh', '-c', script)).trim();
  }

  /** Runs a shell in the pod and returns its exit code and output. */
  async trySh(podName: string, script: string): ReturnType<typeof attempt> {
    const target = ['--namespace', this.namespace, podName, '--'];
    const command = ['exec', ...target, 'sh', '-c', script];
    return attempt(join(programs, 'kubectl'), command, { env: environment });
  }

  /** Waits for an event of that object whose reason and message match, and returns its message. */
  async event(name: string, pattern: RegExp, timeoutMs = 60_000): Promise<string> {
    return eventually(
      `an event of ${name} like ${pattern.source}`,
      async () => {
        const events = (await api.list('Event', this.namespace))
          .filter((event) => textAt(event, 'involvedObject.name') === name)
          .map((event) => `${textAt(event, 'reason') ?? ''}: ${textAt(event, 'message') ?? ''}`);
        const found = events.find((text) => pattern.test(text));
        if (found === undefined) throw new Error(`there are: ${events.join(' | ')}`);
        return found;
      },
      { timeoutMs },
    );
  }

  /** The CSI volume behind a claim. */
  async volumeId(claimName: string): Promise<string> {
    const bound = await this.until('PersistentVolumeClaim', claimName, isBound);
    const name = textAt(bound, 'spec.volumeName') ?? '';
    const volume = await api.until('PersistentVolume', '', name, () => true);
    return textAt(volume, 'spec.csi.volumeHandle') ?? '';
  }

  async #keepState(): Promise<string> {
    const path = join(layout.logs, `failed-${this.namespace}.txt`);
    const queries = [
      ['get', 'pvc,pod,volumesnapshot', '--output', 'wide'],
      ['describe', 'pod,pvc'],
      ['get', 'events', '--sort-by', '.lastTimestamp'],
    ];
    const seen: string[] = [];
    for (const query of queries) {
      const args = [...query, '--namespace', this.namespace];
      const { stdout } = await attempt(join(programs, 'kubectl'), args, { env: environment });
      seen.push(`$ kubectl ${args.join(' ')}\n${stdout}\n`);
    }
    await writeFile(path, seen.join('\n'));
    return seen.at(-1) ?? '';
  }
}

const conditionsSchema = v.object({
  status: v.object({ conditions: v.array(v.object({ type: v.string(), status: v.string() })) }),
});

export function isReady(object: KubeObject): boolean {
  const parsed = v.safeParse(conditionsSchema, object);
  if (!parsed.success) return false;
  const { conditions } = parsed.output.status;
  return conditions.some(({ type, status }) => type === 'Ready' && status === 'True');
}

export function isBound(object: KubeObject): boolean {
  return textAt(object, 'status.phase') === 'Bound';
}
