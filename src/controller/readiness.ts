import type { Agents } from './agents.ts';
import type { NodeRecords } from './nodes/records.ts';

/** Why calls cannot be routed yet; undefined if they can. A node that is unreachable is no reason: the others work. */
export function findReadinessProblem({
  agents,
  records,
}: {
  readonly agents: Agents;
  readonly records: NodeRecords;
}): string | undefined {
  if (agents.syncedForMs !== undefined) return undefined;
  return (
    records.problem ??
    'the agents of the nodes have not been discovered yet; check --agents and what it names'
  );
}
