import type { GetCapacityRequest, GetCapacityResponse } from '../../csi/types.ts';
import { VolumeError } from '../../errors.ts';
import type { RpcCall } from '../../rpc/call.ts';
import { parseCapacityForm } from '../../rpc/forms.ts';
import type { Node } from '../agents.ts';
import { isIn, requireAgent } from '../route.ts';
import { askNodes, type ControllerContext, forward } from './context.ts';

/** A scheduler's old value is better than none for a while, but a node that stays unreachable must not attract pods for ever. */
const longAbsentMs = 3 * 60_000;
/** One node that hangs must not delay the capacity of the others. */
const timeoutMs = 5_000;

const none: GetCapacityResponse = {
  available_capacity: 0n,
  maximum_volume_size: null,
  minimum_volume_size: null,
};

/**
 * CSI spec, GetCapacity: of the nodes of the segment, or the sum over all. A node that is not ready makes the call fail with
 * `unavailable`, so that a scheduler keeps its value, and counts as full after three minutes.
 */
export async function getCapacity(
  context: ControllerContext,
  request: GetCapacityRequest,
  call: RpcCall,
): Promise<GetCapacityResponse> {
  const { agents } = context;
  parseCapacityForm(request);
  agents.requireSynced();
  const asked = request.accessible_topology?.segments ?? {};
  const nodes = agents.nodes();
  const found = nodes.filter((node) => isIn(node, asked));
  const isUnsure = nodes.some(({ tag }) => tag === undefined);
  const mayAppear =
    (agents.isSettling || isUnsure) &&
    Object.keys(asked).length > 0 &&
    !agents.isForgottenPlace(asked);
  if (found.length === 0 && mayAppear) {
    throw new VolumeError(
      'unavailable',
      `no node with the topology ${textOf(asked)} has been seen yet; retry later`,
    );
  }
  const forwarded = { service: 'csi.v1.Controller', rpc: 'GetCapacity', request } as const;
  const [only, ...others] = found.filter((node) => !isLongAbsent(node));
  if (only === undefined) return none;
  if (found.length === 1) return forward(requireAgent(only, agents), forwarded, withLimit());
  const capacities = await askNodes(context, [only, ...others], call, async (node) =>
    requireAgent(node, agents).call(forwarded, withLimit()),
  );
  return capacities.reduce(sum, none);

  function withLimit(): RpcCall {
    return { ...call, deadlineMs: Math.min(call.deadlineMs, Date.now() + timeoutMs) };
  }

  function isLongAbsent({ absence }: Node): boolean {
    return absence !== undefined && agents.absentForMs(absence) > longAbsentMs;
  }
}

/** A volume is on one node, so the largest volume is that of the node with the most room. */
function sum(a: GetCapacityResponse, b: GetCapacityResponse): GetCapacityResponse {
  const larger = (x: bigint, y: bigint) => (x > y ? x : y);
  const smaller = (x: bigint, y: bigint) => (x < y ? x : y);
  return {
    available_capacity: a.available_capacity + b.available_capacity,
    maximum_volume_size: combined(a.maximum_volume_size, b.maximum_volume_size, larger),
    minimum_volume_size: combined(a.minimum_volume_size, b.minimum_volume_size, smaller),
  };
}

function combined(
  a: { readonly value: bigint } | null,
  b: { readonly value: bigint } | null,
  choose: (x: bigint, y: bigint) => bigint,
): { readonly value: bigint } | null {
  if (a === null || b === null) return a ?? b;
  return { value: choose(a.value, b.value) };
}

function textOf(segments: Readonly<Record<string, string>>): string {
  return Object.entries(segments)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
}
