/** Renders the chart with the real helm, without a cluster. */
import { join } from 'node:path';
import * as v from 'valibot';
import { parseAllDocuments } from 'yaml';
import { attempt, type CommandResult } from '../../scripts/command.ts';
import { projectRoot } from '../e2e/cluster/cache.ts';
import { clusterPrograms } from '../e2e/cluster/programs.ts';

export const chart = join(projectRoot, 'charts', 'loopcsi');
export const release = 'r1';
export const namespace = 'storage';

const strings = v.record(v.string(), v.string());

const container = v.looseObject({
  name: v.string(),
  image: v.string(),
  imagePullPolicy: v.string(),
  command: v.optional(v.array(v.string()), []),
  args: v.optional(v.array(v.string()), []),
  terminationMessagePolicy: v.optional(v.string()),
  env: v.optional(v.array(v.looseObject({ name: v.string() })), []),
  resources: v.optional(v.record(v.string(), v.unknown())),
  securityContext: v.record(v.string(), v.unknown()),
  volumeMounts: v.optional(
    v.array(
      v.looseObject({
        name: v.string(),
        mountPath: v.string(),
        mountPropagation: v.optional(v.string()),
      }),
    ),
    [],
  ),
});
export type Container = v.InferOutput<typeof container>;

const podSpec = v.looseObject({
  initContainers: v.optional(v.array(container), []),
  containers: v.array(container),
  serviceAccountName: v.string(),
  automountServiceAccountToken: v.optional(v.boolean()),
  nodeSelector: v.optional(strings, {}),
  imagePullSecrets: v.optional(v.array(v.object({ name: v.string() })), []),
  tolerations: v.optional(v.array(v.unknown())),
  volumes: v.optional(
    v.array(
      v.looseObject({
        name: v.string(),
        hostPath: v.optional(v.object({ path: v.string(), type: v.string() })),
      }),
    ),
    [],
  ),
});

const rule = v.object({
  apiGroups: v.array(v.string()),
  resources: v.array(v.string()),
  resourceNames: v.optional(v.array(v.string())),
  verbs: v.array(v.string()),
});

const manifest = v.looseObject({
  apiVersion: v.string(),
  kind: v.string(),
  metadata: v.looseObject({
    name: v.string(),
    namespace: v.optional(v.string()),
    labels: v.optional(strings, {}),
    annotations: v.optional(strings, {}),
  }),
  rules: v.optional(v.array(rule)),
  parameters: v.optional(strings),
});
export type Manifest = v.InferOutput<typeof manifest>;

/** Runs helm with `values` on its standard input: an object, or the text of a values file. */
export async function helm(
  args: readonly string[],
  values: object | string = {},
): Promise<CommandResult> {
  const program = join(await clusterPrograms(), 'helm');
  const input = typeof values === 'string' ? values : JSON.stringify(values);
  return attempt(program, [...args, '--values', '-'], { input });
}

/** Renders the chart's objects for these values. Throws helm's error message if it refuses them. */
export async function render(values: object, ...flags: readonly string[]): Promise<Manifest[]> {
  const args = ['template', release, chart, '--namespace', namespace, ...flags];
  const { exitCode, stdout, stderr } = await helm(args, values);
  if (exitCode !== 0) throw new Error(stderr);
  return parseAllDocuments(stdout)
    .map((document) => document.toJS() as unknown)
    .filter((object) => object !== null)
    .map((object) => v.parse(manifest, object));
}

/** The pod spec of a workload or a Pod. */
export function podOf(object: Manifest): v.InferOutput<typeof podSpec> | undefined {
  const inWorkload = v.looseObject({
    spec: v.looseObject({ template: v.looseObject({ spec: podSpec }) }),
  });
  if (object.kind === 'Pod') return v.parse(v.looseObject({ spec: podSpec }), object).spec;
  if (!['DaemonSet', 'Deployment', 'Job'].includes(object.kind)) return undefined;
  return v.parse(inWorkload, object).spec.template.spec;
}

/** Flags that enable snapshots, as on a cluster with the CRDs. */
export const withSnapshotCrds = ['--api-versions', 'snapshot.storage.k8s.io/v1'];

export const containersOf = (objects: readonly Manifest[]): readonly Container[] =>
  objects.flatMap((object) => {
    const pod = podOf(object);
    return pod === undefined ? [] : [...pod.initContainers, ...pod.containers];
  });
