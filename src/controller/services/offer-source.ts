/** Copies between nodes: the controller allows a node to read a source on another one, and tells it where that is. */
import { status } from '@grpc/grpc-js';
import type { Source } from '../../csi/agent-types.ts';
import { VolumeError } from '../../errors.ts';
import type { RpcCall } from '../../rpc/call.ts';
import { StatusError } from '../../rpc/status.ts';
import { type Agent, ownCaller } from '../agent.ts';
import type { Agents, Node } from '../agents.ts';
import { absent } from '../route.ts';

const service = 'loopcsi.agent.v1.Agent';
const closeTimeoutMs = 10_000;
const finalCodes: ReadonlySet<status> = new Set([
  status.INVALID_ARGUMENT,
  status.OUT_OF_RANGE,
  status.RESOURCE_EXHAUSTED,
  status.ALREADY_EXISTS,
]);

/** Whether sources can be copied from one node to the other: both must allow it. */
export function canCopy(from: Node, to: Node): boolean {
  return [from, to].every((node) => addressesOf(node).length > 0);
}

/** As `canCopy`, also if one of them has not said yet what it allows. */
export function mayCopy(from: Node, to: Node): boolean {
  return [from, to].every((node) => node.hello === undefined || addressesOf(node).length > 0);
}

/**
 * Makes the copy with `create`, after its node was told where the source is. Throws `unavailable` if the node with the source cannot be
 * asked, and what the two agents answer.
 */
export async function withOfferedSource<T>(
  agents: Agents,
  way: {
    readonly source: Source;
    readonly from: Node;
    readonly to: { readonly node: Node; readonly agent: Agent };
  },
  call: RpcCall,
  create: () => Promise<T>,
): Promise<T> {
  const { source, from, to } = way;
  if (from.agent === undefined) {
    throw new VolumeError(
      'unavailable',
      `volume '${source.copy_name}': its source, ${source.kind} '${source.id}', is on node '${from.name}'; ${absent(from, agents).message}`,
    );
  }
  const { agent } = from;
  const open = { source, peer_addresses: addressesOf(to.node) };
  const { ticket } = await agent.call({ service, rpc: 'OpenSource', request: open }, call);
  const offer = { source, node_id: from.name, address: agent.endpoint.address, ticket };
  await to.agent.call({ service, rpc: 'OfferSource', request: offer }, call);
  try {
    const made = await create();
    closeLater(agent, source);
    return made;
  } catch (error) {
    // The copy does not go on after these.
    if (error instanceof StatusError && finalCodes.has(error.code)) closeLater(agent, source);
    throw error;
  }
}

/**
 * For a copy that exists already: an earlier call that made it may have ended too early to say so, and a volume's capture would be kept.
 */
export function closeCopied(from: Node, source: Source): void {
  if (source.kind === 'volume' && from.agent !== undefined) closeLater(from.agent, source);
}

/** The node of the source also forgets the copy by itself, after ten minutes. */
function closeLater(agent: Agent, source: Source): void {
  const caller = ownCaller(closeTimeoutMs);
  agent.call({ service, rpc: 'CloseSource', request: { source } }, caller).catch(() => undefined);
}

function addressesOf({ hello }: Node): readonly string[] {
  return hello?.peer_addresses ?? [];
}
