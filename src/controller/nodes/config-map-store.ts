import * as v from 'valibot';
import { VolumeError } from '../../errors.ts';
import type { Logger } from '../../observe/log.ts';
import { decodeObject, hasStatus, type KubeClient, type KubeObject } from '../kube/client.ts';
import { followList } from '../kube/followed-list.ts';
import type { NodeStore } from './node-store.ts';

interface ConfigMapOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly name: string;
  readonly log: Logger;
}

/** The key of the ConfigMap. */
const key = 'nodes.json';
/** Other writers are other controllers, and each write is one decision about a node. */
const maxAttempts = 10;

/** A dead connection must not hide for minutes that a node was remembered elsewhere. The server then ends a watch of one object often. */
const timing = { pauseMs: 500, maxPauseMs: 30_000, watchMs: 30_000 };

const dataSchema = v.looseObject({
  data: v.optional(v.nullable(v.record(v.string(), v.string()))),
});

/** Records in a ConfigMap that exists already: the controller needs no right to create one. Every write has the version that was read. */
export function configMapStore({ client, namespace, name, log }: ConfigMapOptions): NodeStore {
  const collection = `/api/v1/namespaces/${namespace}/configmaps`;
  const description = `ConfigMap ${namespace}/${name}`;
  const missing = `${description} does not exist, and the controller may not create it: run helm upgrade, which creates it empty`;
  /** The version of the last own write, until the watch has come to it. */
  let written: string | undefined;
  const read = async (): Promise<KubeObject> => {
    try {
      return decodeObject(await client.get(`${collection}/${name}`));
    } catch (error) {
      if (!hasStatus(error, 404)) throw error;
      throw new VolumeError('not-found', missing, { cause: error });
    }
  };
  return {
    description,
    // The right to list and watch is that of this one object, which needs the selector.
    follow: (onText, onMissing) =>
      followList({
        client,
        log,
        timing,
        path: collection,
        fieldSelector: `metadata.name=${name}`,
        onChange: (objects) => {
          const object = objects.find(({ metadata }) => metadata.name === name);
          if (object === undefined) onMissing(missing);
          else if (!isOlder(object, written)) {
            written = undefined;
            onText(textOf(object));
          }
        },
      }),
    update: async (change) => {
      for (let attempt = 1; ; attempt += 1) {
        const object = await read();
        const text = change(textOf(object));
        if (text === textOf(object)) return text;
        const data = { ...v.parse(dataSchema, object).data, [key]: text };
        const body = { ...object, apiVersion: 'v1', kind: 'ConfigMap', data };
        try {
          written = versionOf(await client.replace(`${collection}/${name}`, body));
          return text;
        } catch (error) {
          if (!hasStatus(error, 409) || attempt >= maxAttempts) throw error;
        }
      }
    },
  };
}

function textOf(object: KubeObject): string | undefined {
  return v.parse(dataSchema, object).data?.[key];
}

const versionOf = ({ metadata }: KubeObject): string | undefined => metadata.resourceVersion;

/** Whether the object is from before the write of that version. A watch may be behind, which would undo the write for a moment. */
function isOlder(object: KubeObject, written: string | undefined): boolean {
  const version = versionOf(object);
  const areNumbers = [version, written].every((one) => /^\d+$/.test(one ?? ''));
  return areNumbers && BigInt(version ?? 0) < BigInt(written ?? 0);
}
