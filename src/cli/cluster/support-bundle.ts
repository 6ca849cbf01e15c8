/**
 * `kubectl loopcsi support-bundle`: everything that a maintainer asks for, in one directory. It reads no Secret and no ConfigMap,
 * takes only the objects of this driver, and removes values that users set freely.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { mapConcurrently } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import { FailedError } from '../errors.ts';
import { toJson } from '../output.ts';
import { concurrentNodes, type DriverPods, driverContainer, execInto, isReady } from './cluster.ts';
import { diagnose } from './doctor.ts';
import type { Kubectl, KubectlResult } from './kubectl.ts';
import type { Pod } from './objects.ts';

type Item = Readonly<Record<string, unknown>>;

/** Kinds of the whole cluster, and which of their objects belong to the driver. */
const objectKinds: Readonly<Record<string, (item: Item, driver: string) => boolean>> = {
  nodes: () => true,
  csinodes: () => true,
  csidrivers: (item, driver) => textAt(item, 'metadata', 'name') === driver,
  storageclasses: (item, driver) => item['provisioner'] === driver,
  csistoragecapacities: () => true,
  persistentvolumes: (item, driver) => textAt(item, 'spec', 'csi', 'driver') === driver,
  // Claims do not name their driver.
  persistentvolumeclaims: () => true,
  'volumesnapshotclasses.snapshot.storage.k8s.io': (item, driver) => item['driver'] === driver,
  'volumesnapshotcontents.snapshot.storage.k8s.io': (item, driver) =>
    textAt(item, 'spec', 'driver') === driver,
  'volumesnapshots.snapshot.storage.k8s.io': () => true,
};

/** Commands of the driver on each node; the name of each is that of its file. */
const nodeCommands: Readonly<Record<string, readonly string[]>> = {
  'doctor.json': ['doctor', '--json'],
  'volumes.json': ['volume', 'list', '--json'],
  'snapshots.json': ['snapshot', 'list', '--json'],
  'pools.json': ['pool', 'list', '--json'],
  'version.txt': ['version'],
};
const logLines = 5_000;

/** Writes the files below the new directory, which must not exist. Returns their number. A part that fails is a file that says why. */
export async function writeBundle(
  kubectl: Kubectl,
  found: DriverPods,
  version: string,
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
  const { stdout } = await kubectl.attempt('version');
  await write('version.txt', `kubectl loopcsi ${version}\n${stdout}`);
  await write(
    'doctor.json',
    await orFailure(async () => toJson(await diagnose(kubectl, found.driver))),
  );
  for (const [kind, isOwn] of Object.entries(objectKinds)) {
    const content = await objectsOf(kubectl, kind, (item) => isOwn(item, found.driver));
    await write(`objects/${kind.replace(/\..*/, '')}.json`, content);
  }
  for (const namespace of namespacesOf(found)) {
    for (const kind of ['pods', 'daemonsets.apps', 'events'] as const) {
      const flags = kind === 'events' ? [] : ['--selector=app.kubernetes.io/part-of=loopcsi'];
      const isOwn = (item: Item): boolean => kind !== 'events' || isEventOf(found, item);
      const content = await objectsOf(kubectl, kind, isOwn, `--namespace=${namespace}`, ...flags);
      await write(`driver/${namespace}/${kind.replace(/\..*/, '')}.json`, content);
    }
  }
  await mapConcurrently(found.driverPods, concurrentNodes, async (pod) => {
    for (const [name, content] of await filesOfNode(kubectl, pod)) {
      await write(join('nodes', pod.spec.nodeName || pod.metadata.name, name), content);
    }
  });
  return files;
}

function namespacesOf({ driverPods, daemonSets }: DriverPods): readonly string[] {
  return [...new Set([...driverPods, ...daemonSets].map(({ metadata }) => metadata.namespace))];
}

function isEventOf({ driverPods, daemonSets }: DriverPods, event: Item): boolean {
  const name = textAt(event, 'involvedObject', 'name');
  return [...driverPods, ...daemonSets].some(({ metadata }) => metadata.name === name);
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

/** A bundle is needed most in a cluster in which something fails. */
async function orFailure(work: () => Promise<string>): Promise<string> {
  try {
    return await work();
  } catch (error) {
    return toJson({ error: messageOf(error) });
  }
}

const listObject = v.object({ items: v.array(v.record(v.string(), v.unknown())) });

async function objectsOf(
  kubectl: Kubectl,
  kind: string,
  isOwn: (item: Item) => boolean,
  ...flags: readonly string[]
): Promise<string> {
  const scope = flags.length === 0 ? ['--all-namespaces'] : flags;
  return orFailure(async () => {
    const { items } = v.parse(
      listObject,
      JSON.parse(await kubectl.run('get', kind, '--output=json', ...scope)),
    );
    return toJson(withoutSecrets(items.filter(isOwn)));
  });
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
    const of = [`--namespace=${namespace}`, name, `--container=${container}`];
    const log = ['logs', ...of, `--tail=${logLines}`];
    files.push([`${container}.log`, textOf(await kubectl.attempt(...log))]);
    if (container !== driverContainer) continue;
    const previous = await kubectl.attempt(...log, '--previous');
    if (previous.exitCode === 0) files.push([`${container}.previous.log`, previous.stdout]);
  }
  return files;
}

function textOf({ exitCode, stdout, stderr }: KubectlResult): string {
  return stdout.trim() === '' && exitCode !== 0 ? `failed: ${stderr}` : stdout;
}

function textAt(item: Item, ...path: readonly string[]): string | undefined {
  let value: unknown = item;
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Item)[key];
  }
  return typeof value === 'string' ? value : undefined;
}

/** Keys that are of no use, or whose content users set freely. */
const removedKeys = new Set(['managedFields', 'data', 'stringData']);
/** Annotations that Kubernetes and Helm use; the last-applied configuration may contain anything. */
const keptAnnotations =
  /^(?!kubectl\.kubernetes\.io\/last-applied)(?:[\w.-]+\.)?kubernetes\.io\/|^meta\.helm\.sh\//;
/** Keys of a map whose values may be secrets; the names in it are kept. */
const maskedMaps = new Set(['volumeAttributes', 'parameters', 'options']);

/** Returns a copy without foreign annotations, values of environment variables, and values that may be secrets. */
export function withoutSecrets(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutSecrets);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, item]: [string, unknown]) => {
      if (removedKeys.has(key)) return [];
      if (key === 'env' && Array.isArray(item)) return [[key, item.map(withoutValue)]];
      if (key === 'annotations') return [[key, maskValues(item, keptAnnotations)]];
      if (maskedMaps.has(key)) return [[key, maskValues(item, knownParameters)]];
      if (key === 'mountOptions') return [[key, '(removed)']];
      if (/token|password|secret$/i.test(key) && typeof item === 'string')
        return [[key, '(removed)']];
      return [[key, withoutSecrets(item)]];
    }),
  );
}

function withoutValue(variable: unknown): unknown {
  if (typeof variable !== 'object' || variable === null || !('value' in variable)) return variable;
  return { ...variable, value: '(removed)' };
}

/** Keeps the values of the driver's own parameters, which are no secrets, and of what the sidecars add. */
const knownParameters =
  /^(?:pool|provisioning|sectorSize|trim|directIO|freeze|mkfsOptions|size|csi\.storage\.k8s\.io\/(?:fstype|pvc|pv|pod|volumesnapshot).*|storage\.kubernetes\.io\/csiProvisionerIdentity)$/;

function maskValues(map: unknown, kept: RegExp): unknown {
  if (typeof map !== 'object' || map === null) return '(removed)';
  return Object.fromEntries(
    Object.entries(map).map(([key, item]: [string, unknown]) => [
      key,
      kept.test(key) ? item : '(removed)',
    ]),
  );
}
