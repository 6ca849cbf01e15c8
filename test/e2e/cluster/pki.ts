/** Certificates and kubeconfigs of a test cluster, valid for a month. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../scripts/command.ts';
import { addresses, type Layout } from './layout.ts';

const ellipticKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
const api = 'https://127.0.0.1:6443';

/** The clients of the API server and their identities. */
const clients = (nodeName: string): Readonly<Record<string, string>> => ({
  admin: '/O=system:masters/CN=admin',
  'controller-manager': '/CN=system:kube-controller-manager',
  scheduler: '/CN=system:kube-scheduler',
  proxy: '/CN=system:kube-proxy',
  kubelet: `/O=system:nodes/CN=system:node:${nodeName}`,
});

export async function makePki(layout: Layout): Promise<void> {
  const openssl = async (...args: string[]): Promise<string> =>
    run('openssl', args, { cwd: layout.pki });
  const authority = [
    '-keyout',
    'ca.key',
    '-out',
    'ca.crt',
    '-days',
    '30',
    '-subj',
    '/CN=loopcsi-e2e',
  ];
  await openssl('req', '-x509', ...ellipticKey, ...authority);
  await openssl('genrsa', '-out', 'sa.key', '2048');
  await openssl('rsa', '-in', 'sa.key', '-pubout', '-out', 'sa.pub');
  const certify = async (name: string, subject: string, altNames: string): Promise<void> => {
    const extensions = `extendedKeyUsage=clientAuth,serverAuth\nsubjectAltName=${altNames}\n`;
    await writeFile(join(layout.pki, `${name}.ext`), extensions);
    const request = ['-subj', subject, '-keyout', `${name}.key`, '-out', `${name}.csr`];
    await openssl('req', ...ellipticKey, ...request);
    const signer = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '30'];
    const files = ['-in', `${name}.csr`, '-extfile', `${name}.ext`, '-out', `${name}.crt`];
    await openssl('x509', '-req', ...signer, ...files);
  };
  const local = `IP:127.0.0.1,IP:${addresses.node},DNS:localhost,DNS:${layout.nodeName}`;
  const service = ['', '.default', '.default.svc', '.default.svc.cluster.local'].map(
    (domain) => `DNS:kubernetes${domain}`,
  );
  await certify(
    'apiserver',
    '/CN=kube-apiserver',
    [local, `IP:${addresses.apiService}`, ...service].join(),
  );
  await certify('apiserver-kubelet', '/O=system:masters/CN=kube-apiserver-kubelet-client', local);
  for (const [name, subject] of Object.entries(clients(layout.nodeName))) {
    await certify(name, subject, local);
    await writeKubeconfig(layout, name);
  }
}

async function writeKubeconfig(layout: Layout, client: string): Promise<void> {
  const encoded = async (file: string): Promise<string> =>
    (await readFile(join(layout.pki, file))).toString('base64');
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name: 'e2e',
        cluster: { server: api, 'certificate-authority-data': await encoded('ca.crt') },
      },
    ],
    users: [
      {
        name: client,
        user: {
          'client-certificate-data': await encoded(`${client}.crt`),
          'client-key-data': await encoded(`${client}.key`),
        },
      },
    ],
    contexts: [{ name: 'e2e', context: { cluster: 'e2e', user: client } }],
    'current-context': 'e2e',
  };
  await writeFile(join(layout.settings, `${client}.conf`), JSON.stringify(config), { mode: 0o600 });
}
