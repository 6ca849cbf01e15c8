/**
 * `kubectl loopcsi support-bundle`: everything that a maintainer asks for, in one directory or archive. It reads no Secret and no
 * ConfigMap, and removes values of environment variables.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Finding } from '../../volumes/admin/doctor.ts';
import { FailedError } from '../errors.ts';
import { toJson } from '../output.ts';
import { type Cluster, execInto, isReady } from './cluster.ts';
import type { Kubectl, KubectlResult } from './kubectl.ts';
import type { Pod } from './objects.ts';

const objectKinds = [
  'nodes',
  'csidrivers',
  'csinodes',
  'storageclasses',
  'csistoragecapacities',
  'persistentvolumes',
  'persistentvolumeclaims',
  'volumesnapshotclasses.snapshot.storage.k8s.io',
  'volumesnapshotcontents.snapshot.storage.k8s.io',
  'volumesnapshots.snapshot.storage.k8s.io',
] as const;

/** Commands of the driver on each node; the name of each is that of its file. */
const nodeCommands: Readonly<Record<string, readonly string[]>> = {
  'doctor.json': ['doctor', '--json'],
  'volumes.json': ['volume', 'list', '--json'],
  'snapshots.json': ['snapshot', 'list', '--json'],
  'pools.json': ['pool', 'list', '--json'],
  'version.txt': ['version'],
};
const logLines = 5_000;

export interface BundleContents {
  readonly version: string;
  readonly findings: readonly Finding[];
}

/** Writes the files below the new directory, which must not exist. Returns their number. */
export async function writeBundle(
  kubectl: Kubectl,
  cluster: Cluster,
  { version, findings }: BundleContents,
  directory: string,
): Promise<number> {
  let files = 0;
  const write = async (path: string, content: string): Promise<void> => {
    const target = join(directory, path);
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, content, { flag: 'wx' });
    files += 1;
  };
  await makeDirectory(directory);
  await write('doctor.json', toJson(findings));
  await write(
    'version.txt',
    `kubectl loopcsi ${version}\n${(await kubectl.attempt('version')).stdout}`,
  );
  for (const kind of objectKinds)
    await write(`objects/${kind.replace(/\..*/, '')}.json`, await objectsOf(kubectl, kind));
  for (const namespace of new Set(cluster.driverPods.map(({ metadata }) => metadata.namespace))) {
    for (const kind of ['pods', 'daemonsets', 'events'] as const) {
      const flags = kind === 'pods' ? ['--selector=app.kubernetes.io/part-of=loopcsi'] : [];
      const content = await objectsOf(kubectl, kind, `--namespace=${namespace}`, ...flags);
      await write(`driver/${namespace}/${kind}.json`, content);
    }
  }
  for (const pod of cluster.driverPods) {
    for (const [name, content] of await filesOfNode(kubectl, pod)) {
      await write(join('nodes', pod.spec.nodeName || pod.metadata.name, name), content);
    }
  }
  return files;
}

async function makeDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory);
  } catch (error) {
    throw new FailedError(`cannot create ${directory}: it must not exist, and its parent must`, {
      cause: error,
    });
  }
}

async function objectsOf(
  kubectl: Kubectl,
  kind: string,
  ...flags: readonly string[]
): Promise<string> {
  const scope = flags.length === 0 ? ['--all-namespaces'] : flags;
  const result = await kubectl.attempt('get', kind, '--output=json', ...scope);
  if (result.exitCode !== 0) return toJson({ error: result.stderr.trim() });
  return toJson(withoutSecrets(JSON.parse(result.stdout)));
}

async function filesOfNode(
  kubectl: Kubectl,
  pod: Pod,
): Promise<readonly (readonly [string, string])[]> {
  const { namespace, name } = pod.metadata;
  const files: (readonly [string, string])[] = [];
  if (isReady(pod)) {
    for (const [file, args] of Object.entries(nodeCommands)) {
      files.push([file, textOf(await kubectl.attempt(...execInto(pod, ...args)))]);
    }
  }
  for (const { name: container } of pod.spec.containers) {
    const log = [
      'logs',
      `--namespace=${namespace}`,
      name,
      `--container=${container}`,
      `--tail=${logLines}`,
    ];
    files.push([`${container}.log`, textOf(await kubectl.attempt(...log))]);
    const previous = await kubectl.attempt(...log, '--previous');
    if (previous.exitCode === 0) files.push([`${container}.previous.log`, previous.stdout]);
  }
  return files;
}

function textOf({ exitCode, stdout, stderr }: KubectlResult): string {
  return stdout.trim() === '' && exitCode !== 0 ? `failed: ${stderr}` : stdout;
}

/** Keys whose content is not needed, or may contain what a user typed. */
const removedKeys = new Set(['managedFields', 'kubectl.kubernetes.io/last-applied-configuration']);

/** Returns a copy without values of environment variables, last-applied configurations and data of any kind of secret. */
export function withoutSecrets(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutSecrets);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, item]: [string, unknown]) => {
      if (removedKeys.has(key)) return [];
      if (key === 'env' && Array.isArray(item)) return [[key, item.map(withoutValue)]];
      if (/^(?:stringData|token|password)$/i.test(key)) return [[key, '(removed)']];
      return [[key, withoutSecrets(item)]];
    }),
  );
}

function withoutValue(variable: unknown): unknown {
  if (typeof variable !== 'object' || variable === null || !('value' in variable)) return variable;
  return { ...variable, value: '(removed)' };
}
