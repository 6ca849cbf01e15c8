/** The value of `--agents`: where the addresses of agents come from. */
import { VolumeError } from '../../errors.ts';
import type { Logger } from '../../observe/log.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Discovery } from './discovery.ts';
import { dnsDiscovery } from './dns.ts';
import { endpointSliceDiscovery } from './endpoint-slices.ts';
import { staticDiscovery } from './static.ts';

export type AgentsOption =
  | { readonly kind: 'static'; readonly addresses: readonly string[] }
  | { readonly kind: 'dns'; readonly name: string; readonly port: number }
  | { readonly kind: 'endpointslices'; readonly namespace: string; readonly service: string };

const defaultPort = 9737;
const expected = `use static:HOST:PORT,…, dns://NAME[:PORT] or endpointslices://NAMESPACE/SERVICE`;

/** Parses the option. The port of a name is 9737 by default. Throws `invalid`. */
export function parseAgents(text: string): AgentsOption {
  const invalid = (why: string): VolumeError =>
    new VolumeError('invalid', `--agents: '${text}' ${why}; ${expected}`);
  if (text.startsWith('static:')) {
    const addresses = text.slice('static:'.length).split(',');
    for (const address of addresses) {
      if (addressPort(address) === undefined)
        throw invalid(`contains '${address}', which is not HOST:PORT with an IPv6 address in []`);
    }
    if (new Set(addresses).size < addresses.length) throw invalid('names an address twice');
    return { kind: 'static', addresses };
  }
  const [, dns] = /^dns:\/\/([^/]+)$/.exec(text) ?? [];
  if (dns !== undefined) {
    const [, name = '', port = String(defaultPort)] =
      /^([\w-]+(?:\.[\w-]+)*\.?)(?::(\d+))?$/.exec(dns) ?? [];
    if (name === '' || !isPort(port)) throw invalid('has no name, or a port outside 1 to 65535');
    return { kind: 'dns', name, port: Number(port) };
  }
  const [, namespace, service] = /^endpointslices:\/\/([a-z0-9-]+)\/([a-z0-9-]+)$/.exec(text) ?? [];
  if (namespace !== undefined && service !== undefined) {
    return { kind: 'endpointslices', namespace, service };
  }
  throw invalid('is no source of agents');
}

/** Makes the discovery. `kube` is asked for only if the option needs the Kubernetes API. */
export function openDiscovery(
  option: AgentsOption,
  { log, kube }: { readonly log: Logger; readonly kube: () => KubeClient },
): Discovery {
  switch (option.kind) {
    case 'static':
      return staticDiscovery(option.addresses);
    case 'dns':
      return dnsDiscovery({ ...option, log });
    case 'endpointslices':
      return endpointSliceDiscovery({ ...option, log, client: kube() });
  }
}

function addressPort(address: string): string | undefined {
  const [, port = ''] = /^(?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d+)$/.exec(address) ?? [];
  return isPort(port) ? port : undefined;
}

const isPort = (text: string): boolean =>
  /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535;
