import type { Snapshot } from '../../csi/types.ts';
import type { Agents } from '../agents.ts';
import { routeOf } from '../route.ts';
import { canCopy } from './offer-source.ts';

/**
 * The snapshot as callers of the controller see it: while it can be copied to other nodes, it has no topology, which means that it can be
 * restored everywhere (CSI spec, Snapshot). Otherwise it has that of its node, as the agent says.
 */
export function withReach<T extends Snapshot | null>(agents: Agents, snapshot: T): T {
  if (snapshot === null) return snapshot;
  const route = routeOf(snapshot.snapshot_id, agents);
  if (route.kind !== 'node') return snapshot;
  const { node: own } = route;
  const isCopied = agents.nodes().some((node) => node !== own && canCopy(own, node));
  return isCopied ? { ...snapshot, accessible_topology: [] } : snapshot;
}
