/**
 * Agents by the EndpointSlices of a headless Service: the control plane writes address and node of every pod into one object, so
 * that the node's name needs no trust in DNS.
 */
import * as v from 'valibot';
import type { Logger } from '../../observe/log.ts';
import type { KubeClient, KubeObject } from '../kube/client.ts';
import { followList } from '../kube/followed-list.ts';
import type { AgentEndpoint, Discovery } from './discovery.ts';

interface SlicesOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly service: string;
  readonly log: Logger;
}

const sliceSchema = v.looseObject({
  addressType: v.string(),
  endpoints: v.optional(
    v.nullable(
      v.array(
        v.looseObject({
          addresses: v.array(v.string()),
          nodeName: v.optional(v.nullable(v.string())),
          conditions: v.optional(
            v.looseObject({
              ready: v.optional(v.nullable(v.boolean())),
              serving: v.optional(v.nullable(v.boolean())),
              terminating: v.optional(v.nullable(v.boolean())),
            }),
            {},
          ),
          targetRef: v.optional(v.nullable(v.looseObject({ uid: v.optional(v.string()) }))),
        }),
      ),
    ),
  ),
  ports: v.optional(
    v.nullable(v.array(v.looseObject({ port: v.optional(v.nullable(v.number())) }))),
  ),
});

/** Follows the EndpointSlices of the Service. Without the API server, the last list stays. */
export function endpointSliceDiscovery(options: SlicesOptions): Discovery {
  const { client, namespace, service, log } = options;
  return {
    watch: (onChange) =>
      followList({
        client,
        log,
        path: `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`,
        labelSelector: `kubernetes.io/service-name=${service}`,
        onChange: (slices) => {
          onChange(endpointsOf(slices));
        },
      }),
  };
}

/** One endpoint for each pod: in a cluster with two address families, a pod is in one slice of each. */
export function endpointsOf(slices: readonly KubeObject[]): readonly AgentEndpoint[] {
  const byPod = new Map<string, AgentEndpoint>();
  const parsed = slices.map((slice) => v.parse(sliceSchema, slice));
  // IPv4 first, so that the choice does not depend on the order in which slices change.
  for (const slice of parsed.sort((a, b) => a.addressType.localeCompare(b.addressType))) {
    const port = slice.ports?.[0]?.port;
    if (port === undefined || port === null) continue;
    for (const { addresses, nodeName, conditions, targetRef } of slice.endpoints ?? []) {
      const [ip] = addresses;
      if (ip === undefined) continue;
      const address = `${ip.includes(':') ? `[${ip}]` : ip}:${port}`;
      const pod = targetRef?.uid ?? address;
      if (byPod.has(pod)) continue;
      byPod.set(pod, {
        address,
        ...(nodeName === undefined || nodeName === null ? {} : { nodeName }),
        // `ready` is always true, because the Service publishes addresses of pods that are not ready.
        isServing: conditions.serving ?? conditions.ready ?? true,
        isTerminating: conditions.terminating ?? false,
      });
    }
  }
  return [...byPod.values()].sort((a, b) => a.address.localeCompare(b.address));
}
