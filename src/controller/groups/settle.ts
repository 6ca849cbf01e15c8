/** Members of groups over several nodes that were prepared while the controller, a node or the network failed. */
import { callPeriodically } from '../../async.ts';
import { messageOf, VolumeError } from '../../errors.ts';
import type { Logger } from '../../observe/log.ts';
import { type Agent, type Caller, ownCaller } from '../agent.ts';
import type { Agents, Node } from '../agents.ts';
import { findAgent } from '../route.ts';

const service = 'loopcsi.agent.v1.Agent';
const intervalMs = 5_000;
const callTimeoutMs = 10_000;

/** The members of a group on one node. */
export interface GroupPart {
  readonly groupId: string;
  readonly attempt: string;
  /** Empty if they are not known. */
  readonly snapshotIds: readonly string[];
}

/** The group of that attempt exists: the node uses its members from now on. */
export async function settlePart(agent: Agent, part: GroupPart, caller: Caller): Promise<void> {
  const { groupId: group_id, attempt, snapshotIds: snapshot_ids } = part;
  const request = { group_id, attempt, snapshot_ids };
  await agent.call({ service, rpc: 'SettleGroupPart', request }, caller);
}

/** The group does not exist: the node removes what that attempt has prepared, or with attempt '' all members of the group. */
export async function removePart(agent: Agent, part: GroupPart, caller: Caller): Promise<void> {
  const { groupId: group_id, attempt, snapshotIds: snapshot_ids } = part;
  const request = { group_id, attempt, snapshot_ids };
  await agent.call({ service, rpc: 'RemoveGroupPart', request }, caller);
}

/** Decides again and again about members of which nodes do not know whether their group exists. Returns the function that ends this. */
export function settleGroups(agents: Agents, log: Logger): () => void {
  // A node that answers slowly must not delay the others.
  const busy = new Set<string>();
  return callPeriodically(async () => {
    for (const node of agents.nodes()) {
      const { hello, name } = node;
      if (hello === undefined || hello.undecided_groups.length === 0 || busy.has(name)) continue;
      busy.add(name);
      void settleNode(agents, node, log).finally(() => busy.delete(name));
    }
    return intervalMs;
  }, intervalMs);
}

/** What the node has said may be a minute old; each of the calls can come again. */
async function settleNode(agents: Agents, { agent, hello, name }: Node, log: Logger) {
  if (agent === undefined || hello === undefined) return;
  for (const { group_id: groupId, attempt } of hello.undecided_groups) {
    try {
      const done = await settleOne(agents, agent, { groupId, attempt, snapshotIds: [] });
      log.debug({ groupId, node: name, done }, 'a part of a group was decided');
    } catch (error) {
      log.debug({ groupId, node: name, problem: messageOf(error) }, 'a group is undecided');
    }
  }
}

/**
 * The node that keeps the record of the group decides, because the commit is a step of its own part: if it is not taking the group, and
 * has no record of this attempt, there never will be one. While it cannot be asked, the members are kept.
 */
async function settleOne(
  agents: Agents,
  agent: Agent,
  part: GroupPart,
): Promise<'kept' | 'removed' | 'undecided'> {
  const primary = findAgent(part.groupId, 'group snapshot', agents);
  if (primary !== undefined) {
    const request = { group_id: part.groupId };
    const found = await primary.call(
      { service, rpc: 'FindGroup', request },
      ownCaller(callTimeoutMs),
    );
    if (found.state === 'running') return 'undecided';
    if (found.state === 'exists' && found.attempt === part.attempt) {
      await settlePart(agent, part, ownCaller(callTimeoutMs));
      return 'kept';
    }
    if (found.state !== 'exists' && found.state !== 'none')
      throw new VolumeError('internal', `node '${primary.name}' answers '${found.state}'`);
  }
  await removePart(agent, part, ownCaller(callTimeoutMs));
  return 'removed';
}
