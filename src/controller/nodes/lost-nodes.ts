/** Which nodes may be lost, and the PersistentVolumes on them. */
import * as v from 'valibot';
import { nodeTagOf, tagOfId } from '../../ids.ts';
import type { Agents, Node } from '../agents.ts';
import type { KubeClient } from '../kube/client.ts';
import type { NodeRecords } from './records.ts';

const claimSchema = v.looseObject({
  namespace: v.string(),
  name: v.string(),
  uid: v.optional(v.string()),
});
export type Claim = v.InferOutput<typeof claimSchema>;

const volumeSchema = v.looseObject({
  spec: v.looseObject({
    csi: v.optional(v.looseObject({ driver: v.string(), volumeHandle: v.string() })),
    claimRef: v.optional(v.nullable(claimSchema)),
    nodeAffinity: v.optional(
      v.looseObject({
        required: v.optional(
          v.looseObject({
            nodeSelectorTerms: v.array(
              v.looseObject({
                matchExpressions: v.optional(
                  v.array(v.looseObject({ values: v.optional(v.array(v.string()), []) })),
                  [],
                ),
              }),
            ),
          }),
        ),
      }),
    ),
  }),
});

const pageSchema = v.looseObject({
  metadata: v.looseObject({ continue: v.optional(v.string(), '') }),
  items: v.array(v.unknown()),
});

/** What is needed of a PersistentVolume of this driver. */
export interface PlacedVolume {
  readonly tag: string;
  readonly claim: Claim | undefined;
  /** Values of its node affinity, of which one is the name of its node. */
  readonly places: readonly string[];
}

const pageSize = 500;

/** Lists the PersistentVolumes of the driver, page by page, so that a large cluster does not fill the memory. */
export async function listVolumes(
  client: Pick<KubeClient, 'get'>,
  driverName: string,
): Promise<readonly PlacedVolume[]> {
  const found: PlacedVolume[] = [];
  let token = '';
  do {
    const query = new URLSearchParams({
      limit: String(pageSize),
      ...(token === '' ? {} : { continue: token }),
    });
    const page = v.parse(
      pageSchema,
      await client.get(`/api/v1/persistentvolumes?${query.toString()}`),
    );
    found.push(...page.items.flatMap((item) => placedVolume(item, driverName)));
    token = page.metadata.continue;
  } while (token !== '');
  return found;
}

function placedVolume(item: unknown, driverName: string): readonly PlacedVolume[] {
  const { spec } = v.parse(volumeSchema, item);
  const tag = spec.csi?.driver === driverName ? tagOfId(spec.csi.volumeHandle) : undefined;
  if (tag === undefined) return [];
  const terms = spec.nodeAffinity?.required?.nodeSelectorTerms ?? [];
  const places = terms.flatMap(({ matchExpressions }) =>
    matchExpressions.flatMap(({ values }) => values),
  );
  return [{ tag, claim: spec.claimRef ?? undefined, places }];
}

/** A node whose agent cannot be called, or that this controller has not seen. */
export interface AbsentNode {
  readonly name: string;
  /** Absent if it has not been seen. */
  readonly node: Node | undefined;
  /** Milliseconds for which that has been so, as far as this controller knows. */
  readonly absentMs: number;
  readonly claims: readonly Claim[];
}

/** The nodes that are not ready, not forgotten, and of known name: those that are announced, that have volumes, or a record. */
export function absentNodes(
  { agents, records }: { readonly agents: Agents; readonly records: NodeRecords },
  volumes: readonly PlacedVolume[],
): readonly AbsentNode[] {
  const nodes = new Map(agents.nodes().map((node) => [node.tag, node]));
  const names = new Map<string, string>();
  for (const { tag, name, agent } of nodes.values()) {
    if (tag !== undefined && agent === undefined) names.set(tag, name);
  }
  for (const { name } of records.all()) names.set(nodeTagOf(name), name);
  for (const { tag, places } of volumes) {
    const name = places.find((place) => nodeTagOf(place) === tag);
    if (name !== undefined) names.set(tag, name);
  }
  const claims = new Map<string, Claim[]>();
  for (const { tag, claim } of volumes) {
    if (claim === undefined) continue;
    const others = claims.get(tag);
    if (others === undefined) claims.set(tag, [claim]);
    else others.push(claim);
  }
  return [...names].flatMap(([tag, name]) => {
    const node = nodes.get(tag);
    if (agents.isForgotten(tag) || node?.agent !== undefined) return [];
    const absence = node?.absence;
    const absentMs =
      absence === undefined ? (agents.syncedForMs ?? 0) : agents.absentForMs(absence);
    return [{ name, node, absentMs, claims: claims.get(tag) ?? [] }];
  });
}
