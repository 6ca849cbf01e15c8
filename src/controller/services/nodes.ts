import type { ControlledNode } from '../../csi/admin-types.ts';
import type { HelloResponse } from '../../csi/agent-types.ts';
import { VolumeError } from '../../errors.ts';
import { nodeTagOf } from '../../ids.ts';
import type { Implementation } from '../../rpc/handlers.ts';
import { requireText } from '../../rpc/validate.ts';
import type { Agents, ForgottenNode, Node } from '../agents.ts';
import type { NodeRecords } from '../nodes/records.ts';
import { reasonOf } from '../route.ts';

interface NodesContext {
  readonly agents: Agents;
  readonly records: NodeRecords;
}

/** The calls of the service, for the log. */
export const nodesCalls = new Map([
  ['ListNodes', { logClass: 'read', offered: true } as const],
  ['ForgetNode', { logClass: 'change', offered: true } as const],
  ['RememberNode', { logClass: 'change', offered: true } as const],
]);

/** A node that never returns is known by its name only, so the name is not looked for among the nodes. */
const maxNameBytes = 256;

/** Implements `loopcsi.v1.Nodes` (csi-proto/loopcsi.proto). */
export function nodesMethods({
  agents,
  records,
}: NodesContext): Implementation<'loopcsi.v1.Nodes'> {
  return {
    async ListNodes() {
      agents.requireSynced();
      return { nodes: listNodes({ agents, records }) };
    },

    async ForgetNode({ name, force, addresses }) {
      requireName(name);
      agents.requireSynced();
      const tag = nodeTagOf(name);
      const nodes = [...agents.nodes(), ...agents.forgottenNodes()];
      requireNoAddress(name, nodes);
      for (const address of addresses) requireUnnamed(address, { name, tag }, nodes);
      const node = nodes.find((one) => one.tag === tag);
      if (!force && !agents.isForgotten(tag)) {
        if (node === undefined) requireNotSeen(name, agents);
        else requireUnreachable(node, agents);
      }
      const all = [...new Set([...(node?.addresses ?? []), ...addresses])];
      const isNew = await records.forget(name, { by: 'operator', addresses: all });
      return { tag, was_forgotten: !isNew, was_known: node !== undefined };
    },

    async RememberNode({ name }) {
      requireName(name);
      const wasForgotten = await records.remember(name);
      return { tag: nodeTagOf(name), was_forgotten: wasForgotten };
    },
  };
}

function requireName(name: string): void {
  requireText(name, 'name');
  if (Buffer.byteLength(name) <= maxNameBytes && !/\p{Cc}/u.test(name)) return;
  throw new VolumeError(
    'invalid',
    `name is not a node id; it has 1 to ${maxNameBytes} bytes without control characters`,
  );
}

/** Throws `invalid` for the address that stands for the name of a node while that is not known: to forget it has no effect. */
function requireNoAddress(name: string, nodes: readonly Node[]): void {
  if (!nodes.some((one) => one.tag === undefined && one.name === name)) return;
  throw new VolumeError(
    'invalid',
    `'${name}' is the address of an agent that has not said which node it is; loopcsi node forget NODE --address ${name}, with the id of its node`,
  );
}

/** Throws `invalid` if no agent of unknown node is at the address: its record would hide another node. */
function requireUnnamed(
  address: string,
  { name, tag }: { readonly name: string; readonly tag: string },
  nodes: readonly Node[],
): void {
  const there = nodes.find(({ addresses }) => addresses.includes(address));
  if (there !== undefined && (there.tag === undefined || there.tag === tag)) return;
  throw new VolumeError(
    'invalid',
    there === undefined
      ? `no agent is announced at '${address}'; loopcsi node list --output wide shows the addresses`
      : `the agent at '${address}' is that of node '${there.name}', not of '${name}'`,
  );
}

/** Throws `wrong-state` if a node that has not been seen may be one whose agent answers, or is about to. */
function requireNotSeen(name: string, agents: Agents): void {
  const remedy = 'retry later, or force this to give up its volumes anyway';
  for (const one of agents.nodes()) {
    const state = one.tag === undefined ? reachableText(one.absence, agents) : undefined;
    if (state === undefined) continue;
    throw new VolumeError(
      'wrong-state',
      `node '${name}' has not been seen since this controller started, but the agent at '${one.name}', which has not said yet which node it is, ${state}; ${remedy}`,
    );
  }
  if (!agents.isSettling) return;
  throw new VolumeError(
    'wrong-state',
    `node '${name}' has not been seen, but this controller knows the agents for ${Math.round((agents.syncedForMs ?? 0) / 1000)} s only, so the node may still appear; ${remedy}`,
  );
}

/** A driver that restarts is unreachable for less. */
const restartMs = 60_000;

/** Throws `wrong-state` if the agent of the node answers, or may be about to: its volumes may be in use. */
function requireUnreachable({ name, absence }: Node, agents: Agents): void {
  const state = reachableText(absence, agents);
  if (state === undefined) return;
  throw new VolumeError(
    'wrong-state',
    `node '${name}' ${state}, and its volumes may be in use; stop its driver first, or force this to give up its volumes anyway`,
  );
}

function reachableText(absence: Node['absence'], agents: Agents): string | undefined {
  switch (absence?.kind) {
    case undefined:
      return 'is ready';
    case 'refused':
      return `can be reached, although it is refused (${absence.why})`;
    case 'connecting':
      return 'is being connected for the first time';
    case 'unreachable': {
      const ms = agents.absentForMs(absence);
      return ms < restartMs
        ? `has been unreachable for ${Math.round(ms / 1000)} s only`
        : undefined;
    }
  }
}

function listNodes({ agents, records }: NodesContext): readonly ControlledNode[] {
  const present = agents.forgottenNodes();
  const tags = new Set(present.map(({ tag }) => tag));
  const gone = records
    .all()
    .flatMap(({ name, forgotten }) =>
      forgotten === null || tags.has(nodeTagOf(name)) ? [] : [{ name, at: forgotten.at }],
    );
  const nodes = [
    ...agents.nodes().map((node) => knownNode(node, agents)),
    ...present.map((node) => forgottenNode(node, agents)),
    ...gone.map(({ name, at }) => unknownNode(name, timestampOf(Date.parse(at)))),
  ];
  return nodes.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

function knownNode(node: Node, agents: Agents): ControlledNode {
  const { name, tag, absence, agent, addresses, hello } = node;
  const state = absence ?? agent?.state;
  return {
    name,
    tag: tag ?? '',
    state: state?.kind ?? 'unreachable',
    reason: absence === undefined ? '' : `${reasonOf(absence)}${unnamedText(node)}`,
    since: state === undefined ? null : wallClock(state.sinceMs, agents),
    addresses,
    ...lastSaid(hello),
    forgotten_at: null,
  };
}

function unnamedText({ name, tag, absence }: Node): string {
  return tag !== undefined || absence?.kind !== 'unreachable'
    ? ''
    : `; it has not said which node it is since this controller started; if that never comes back: loopcsi node forget NODE --address ${name}`;
}

function forgottenNode(node: ForgottenNode, agents: Agents): ControlledNode {
  const { name, tag, addresses, hello, forgottenAt, returnedSinceMs } = node;
  const at = timestampOf(Date.parse(forgottenAt));
  return {
    name,
    tag: tag ?? '',
    state: returnedSinceMs === undefined ? 'forgotten' : 'refused',
    reason:
      returnedSinceMs === undefined
        ? lostText
        : `it has returned after it was forgotten; its data is untouched: loopcsi node remember ${name}`,
    since: returnedSinceMs === undefined ? at : wallClock(returnedSinceMs, agents),
    addresses,
    ...lastSaid(hello),
    forgotten_at: at,
  };
}

const lostText = 'its volumes and snapshots count as lost';

function unknownNode(name: string, at: ControlledNode['since']): ControlledNode {
  return {
    name,
    tag: nodeTagOf(name),
    state: 'forgotten',
    reason: lostText,
    since: at,
    addresses: [],
    ...lastSaid(undefined),
    forgotten_at: at,
  };
}

function lastSaid(
  hello: HelloResponse | undefined,
): Pick<ControlledNode, 'version' | 'pools' | 'volume_count'> {
  return {
    version: hello?.version ?? '',
    pools: hello?.pools.map(({ name }) => name) ?? [],
    volume_count: hello?.volume_count ?? null,
  };
}

function wallClock(sinceMs: number, agents: Agents): ControlledNode['since'] {
  return timestampOf(Date.now() - (agents.nowMs() - sinceMs));
}

function timestampOf(ms: number): NonNullable<ControlledNode['since']> {
  const whole = Math.floor(ms / 1000);
  return { seconds: BigInt(whole), nanos: Math.floor(ms - whole * 1000) * 1_000_000 };
}
