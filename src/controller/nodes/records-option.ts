/** The value of `--node-records`: where the records of nodes are kept. */
import { isAbsolute } from 'node:path';
import { VolumeError } from '../../errors.ts';
import type { Logger } from '../../observe/log.ts';
import type { KubeClient } from '../kube/client.ts';
import { configMapStore } from './config-map-store.ts';
import { FileStore } from './file-store.ts';
import type { NodeStore } from './node-store.ts';

export type RecordsOption =
  | { readonly kind: 'configmap'; readonly namespace: string; readonly name: string }
  | { readonly kind: 'file'; readonly path: string };

/** Parses the option. Throws `invalid`. */
export function parseRecords(text: string): RecordsOption {
  const [, namespace, name] =
    /^configmap:\/\/([a-z0-9-]+)\/([a-z0-9][a-z0-9.-]*)$/.exec(text) ?? [];
  if (namespace !== undefined && name !== undefined) return { kind: 'configmap', namespace, name };
  const path = text.startsWith('file://') ? text.slice('file://'.length) : '';
  if (isAbsolute(path) && !path.endsWith('/')) return { kind: 'file', path };
  throw new VolumeError(
    'invalid',
    `--node-records: '${text}' is neither file:///PATH nor configmap://NAMESPACE/NAME`,
  );
}

/** Opens the store. `kube` is asked for only if the option needs the Kubernetes API. Throws `invalid` for an unusable file. */
export async function openRecords(
  option: RecordsOption,
  { log, kube }: { readonly log: Logger; readonly kube: () => KubeClient },
): Promise<NodeStore> {
  switch (option.kind) {
    case 'configmap':
      return configMapStore({ ...option, client: kube(), log });
    case 'file':
      return FileStore.open({ path: option.path, log });
  }
}
