/** Certificates and kubeconfigs of a test cluster, valid for a month. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../scripts/command.ts';
import { addresses, type Layout, type NodeLayout } from './layout.ts';

const ellipticKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
const api = `https://${addresses.control}:6443`;

/** Certificates and kubeconfigs of the control plane, and of each node in its own directory. */
export async function makePki(layout: Layout): Promise<void> {
  const authority = new Authority(layout);
  await authority.make();
  const { control } = layout;
  const service = ['', '.default', '.default.svc', '.default.svc.cluster.local'].map(
    (domain) => `DNS:kubernetes${domain}`,
  );
  const own = `IP:127.0.0.1,IP:${control.address},DNS:localhost`;
  const names = [own, `IP:${addresses.apiService}`, ...service].join();
  await authority.certify(layout.pki, 'apiserver', '/CN=kube-apiserver', names);
  const kubeletClient = '/O=system:masters/CN=kube-apiserver-kubelet-client';
  await authority.certify(layout.pki, 'apiserver-kubelet', kubeletClient, own);
  for (const [name, subject] of Object.entries(controlClients)) {
    await authority.certify(layout.pki, name, subject, own);
    await authority.writeKubeconfig(layout.pki, name, layout.settings);
  }
  for (const node of layout.nodes) {
    const pki = join(node.settings, 'pki');
    await mkdir(pki, { recursive: true });
    for (const [name, subject] of Object.entries(nodeClients(node))) {
      await authority.certify(pki, name, subject, `IP:${node.address},DNS:${node.name}`);
      await authority.writeKubeconfig(pki, name, node.settings);
    }
  }
}

/** The clients of the API server beside the nodes, and their identities. */
const controlClients: Readonly<Record<string, string>> = {
  admin: '/O=system:masters/CN=admin',
  'controller-manager': '/CN=system:kube-controller-manager',
  scheduler: '/CN=system:kube-scheduler',
};

const nodeClients = (node: NodeLayout): Readonly<Record<string, string>> => ({
  kubelet: `/O=system:nodes/CN=system:node:${node.name}`,
  proxy: '/CN=system:kube-proxy',
});

class Authority {
  readonly #pki: string;

  constructor(layout: Layout) {
    this.#pki = layout.pki;
  }

  /** Makes the certificate authority, and the key with which service account tokens are signed. */
  async make(): Promise<void> {
    const openssl = async (...args: string[]): Promise<string> =>
      run('openssl', args, { cwd: this.#pki });
    const files = ['-keyout', 'ca.key', '-out', 'ca.crt'];
    const subject = ['-days', '30', '-subj', '/CN=loopcsi-e2e'];
    await openssl('req', '-x509', ...ellipticKey, ...files, ...subject);
    await openssl('genrsa', '-out', 'sa.key', '2048');
    await openssl('rsa', '-in', 'sa.key', '-pubout', '-out', 'sa.pub');
  }

  /** Writes `name`.key and `name`.crt to the directory. */
  async certify(directory: string, name: string, subject: string, altNames: string): Promise<void> {
    const path = (extension: string): string => join(directory, `${name}.${extension}`);
    const extensions = `extendedKeyUsage=clientAuth,serverAuth\nsubjectAltName=${altNames}\n`;
    await writeFile(path('ext'), extensions);
    const request = ['-subj', subject, '-keyout', path('key'), '-out', path('csr')];
    await run('openssl', ['req', ...ellipticKey, ...request]);
    const [ca, key] = [join(this.#pki, 'ca.crt'), join(this.#pki, 'ca.key')];
    const signer = ['-CA', ca, '-CAkey', key, '-CAcreateserial', '-days', '30'];
    const files = ['-in', path('csr'), '-extfile', path('ext'), '-out', path('crt')];
    await run('openssl', ['x509', '-req', ...signer, ...files]);
  }

  /** Writes `client`.conf with the certificate and key of that name. */
  async writeKubeconfig(directory: string, client: string, target: string): Promise<void> {
    const encoded = async (path: string): Promise<string> =>
      (await readFile(path)).toString('base64');
    const ca = await encoded(join(this.#pki, 'ca.crt'));
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'e2e', cluster: { server: api, 'certificate-authority-data': ca } }],
      users: [
        {
          name: client,
          user: {
            'client-certificate-data': await encoded(join(directory, `${client}.crt`)),
            'client-key-data': await encoded(join(directory, `${client}.key`)),
          },
        },
      ],
      contexts: [{ name: 'e2e', context: { cluster: 'e2e', user: client } }],
      'current-context': 'e2e',
    };
    await writeFile(join(target, `${client}.conf`), JSON.stringify(config), { mode: 0o600 });
  }
}
