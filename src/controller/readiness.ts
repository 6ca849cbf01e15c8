import type { Agents } from './agents.ts';

/** Why calls cannot be routed yet; undefined if they can. A node that is away is no reason: the others work. */
export function findReadinessProblem(agents: Agents): string | undefined {
  if (agents.syncedForMs !== undefined) return undefined;
  return 'the agents of the nodes have not been discovered yet; check --agents and what it names';
}
