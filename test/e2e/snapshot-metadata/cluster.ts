/** Changed blocks in the cluster of the tests: the chart with the stand-in for the sidecar, and what a client of it does. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { run } from '../../../scripts/command.ts';
import { images } from '../cluster/images.ts';
import { textAt } from '../kube/api.ts';
import { driverName, release, systemNamespace } from '../kube/chart.ts';
import { api, type Scenario } from '../kube/scenario.ts';
import { changeShape } from '../kube/shape.ts';
import type { Address, BlockRange } from './protocol.ts';

const group = 'cbt.storage.k8s.io';
const crds = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const crd = `snapshotmetadataservices.${group}`;
const secrets = `/api/v1/namespaces/${systemNamespace}/secrets`;
const secret = 'snapshot-metadata-tls';
/** Neither the driver's name nor that of a Kubernetes service, so that a wrong audience is noticed. */
export const audience = 'changed-blocks.test';

/** As much of the kind SnapshotMetadataService as the chart and a client use. */
const definition = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: {
    name: crd,
    annotations: { 'api-approved.kubernetes.io': 'unapproved, test' },
  },
  spec: {
    group,
    scope: 'Cluster',
    names: { kind: 'SnapshotMetadataService', plural: 'snapshotmetadataservices' },
    versions: [
      {
        name: 'v1beta1',
        served: true,
        storage: true,
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: {
                type: 'object',
                required: ['address', 'audience', 'caCert'],
                properties: {
                  address: { type: 'string' },
                  audience: { type: 'string' },
                  caCert: { type: 'string', format: 'byte' },
                },
              },
            },
          },
        },
      },
    ],
  },
};

/** Makes the certificate for the Service, as an operator does, and returns it, PEM in base64. */
async function makeCertificate(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-metadata-'));
  try {
    const host = `${release}-metadata.${systemNamespace}`;
    const [key, certificate] = [join(directory, 'tls.key'), join(directory, 'tls.crt')];
    const self = ['-x509', '-days', '2', '-subj', '/CN=metadata', '-keyout', key];
    const name = ['-addext', `subjectAltName=DNS:${host}`, '-out', certificate];
    const elliptic = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    await run('openssl', ['req', ...elliptic, ...self, ...name]);
    const data = {
      'tls.crt': (await readFile(certificate)).toString('base64'),
      'tls.key': (await readFile(key)).toString('base64'),
    };
    const type = 'kubernetes.io/tls';
    await api.call('POST', secrets, { metadata: { name: secret }, type, data });
    return data['tls.crt'];
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Upgrades the release to a controller that serves changed blocks. */
export async function serveChangedBlocks(): Promise<void> {
  await api.call('POST', crds, definition);
  const caBundle = await makeCertificate();
  const [registry = '', repository = '', tag = ''] = images.standIn.split(/[/:]/);
  await changeShape(true, {
    snapshotMetadata: {
      enabled: true,
      image: { registry, repository, tag, pullPolicy: 'Never' },
      tlsSecret: secret,
      caBundle,
      audience,
    },
  });
}

/** Upgrades the release to a shape without changed blocks. */
export async function endChangedBlocks(hasController: boolean): Promise<void> {
  await changeShape(hasController);
  await api.call('DELETE', `${secrets}/${secret}`);
  await api.call('DELETE', `${crds}/${crd}`);
}

const serviceSchema = v.object({
  spec: v.object({ address: v.string(), audience: v.string(), caCert: v.string() }),
});
const tokenSchema = v.object({ status: v.object({ token: v.string() }) });

/** Finds the server as a backup tool does: by the object with the driver's name. */
export async function findServer(): Promise<Address & { readonly audience: string }> {
  const path = `/apis/${group}/v1beta1/snapshotmetadataservices/${driverName}`;
  const { spec } = v.parse(serviceSchema, await api.call('GET', path));
  const [host = '', port = ''] = spec.address.split(':');
  const [service = '', namespace = ''] = host.split('.');
  const found = await api.until('Service', namespace, service, () => true);
  const target = `${textAt(found, 'spec.clusterIP') ?? ''}:${port}`;
  return { target, host, ca: Buffer.from(spec.caCert, 'base64'), audience: spec.audience };
}

/** Makes a service account, which may read snapshots of its namespace if `isAllowed`. */
export async function makeAccount(
  scenario: Scenario,
  name: string,
  isAllowed: boolean,
): Promise<void> {
  const { namespace } = scenario;
  const metadata = { name };
  await api.call('POST', `/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata });
  if (!isAllowed) return;
  const rbac = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}`;
  const apiGroups = ['snapshot.storage.k8s.io'];
  const rules = [{ apiGroups, resources: ['volumesnapshots'], verbs: ['get'] }];
  await api.call('POST', `${rbac}/roles`, { metadata, rules });
  const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name };
  const subjects = [{ kind: 'ServiceAccount', name, namespace }];
  await api.call('POST', `${rbac}/rolebindings`, { metadata, roleRef, subjects });
}

export async function tokenOf(
  scenario: Scenario,
  account: string,
  forAudience: string,
): Promise<string> {
  const path = `/api/v1/namespaces/${scenario.namespace}/serviceaccounts/${account}/token`;
  const made = await api.call('POST', path, { spec: { audiences: [forAudience] } });
  return v.parse(tokenSchema, made).status.token;
}

/** The CSI handle of a VolumeSnapshot. */
export async function handleOf(scenario: Scenario, snapshot: string): Promise<string> {
  const found = await scenario.get('VolumeSnapshot', snapshot);
  const name = textAt(found, 'status.boundVolumeSnapshotContentName') ?? '';
  const content = await api.until('VolumeSnapshotContent', '', name, () => true);
  return textAt(content, 'status.snapshotHandle') ?? '';
}

export const sumOf = (ranges: readonly BlockRange[]): bigint =>
  ranges.reduce((bytes, { size_bytes }) => bytes + size_bytes, 0n);
