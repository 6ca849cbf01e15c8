/**
 * Group snapshots over several nodes. Each node takes its part step by step; no node makes a step before all have made the one before it,
 * so there is a moment at which all filesystems are frozen and none is thawed yet. The record on one node, the primary, is the commit.
 */
import { randomUUID } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import { settleAll } from '../../async.ts';
import type {
  AdvanceGroupPartRequest,
  AdvanceGroupPartResponse,
  GroupMember,
} from '../../csi/agent-types.ts';
import type { CreateVolumeGroupSnapshotRequest } from '../../csi/types.ts';
import { VolumeError } from '../../errors.ts';
import { groupIdFor, memberIdFor } from '../../ids.ts';
import type { RpcCall } from '../../rpc/call.ts';
import { StatusError } from '../../rpc/status.ts';
import type { Agent } from '../agent.ts';
import { removePart, settlePart } from './settle.ts';

const service = 'loopcsi.agent.v1.Agent';

/** A node, and the volumes of the group that it has. */
export interface NodeOfGroup {
  readonly agent: Agent;
  readonly tag: string;
  readonly volumeIds: readonly string[];
}

/** The group and the ids of its members. */
export interface TakenGroup {
  readonly groupId: string;
  readonly snapshotIds: readonly string[];
}

/** A part that a node is taking. */
interface Part extends NodeOfGroup {
  readonly liveVolumeIds: readonly string[];
}

interface Attempt {
  readonly id: string;
  readonly groupId: string;
  readonly request: CreateVolumeGroupSnapshotRequest;
  readonly call: RpcCall;
  /** Aborted at the end: then the nodes thaw, and give up what is neither prepared nor committed. */
  readonly lease: AbortController;
}

/**
 * Returns the group with that name, or takes it. The first of the nodes keeps its record. Returns only when all members can be used.
 * Throws what the nodes answer, and `wrong-state` for several block volumes in use.
 */
export async function takeOverNodes(
  nodes: readonly [NodeOfGroup, ...NodeOfGroup[]],
  request: CreateVolumeGroupSnapshotRequest,
  call: RpcCall,
): Promise<TakenGroup> {
  const [primary, ...others] = nodes;
  const groupId = groupIdFor(request.name, primary.tag);
  const attempt = { id: randomUUID(), groupId, request, call, lease: new AbortController() };
  try {
    // The primary is asked first: it says if the group exists, and while it takes part in this attempt, no other can be committed.
    const first = await beginPart(attempt, primary, { keepsRecord: true });
    const taken = first.exists
      ? { attempt: first.attempt, snapshotIds: first.snapshot_ids }
      : await takeAll(attempt, { ...primary, liveVolumeIds: first.live_volume_ids }, others);
    const settled = others.map(({ agent, tag, volumeIds }) => {
      const snapshotIds = volumeIds.map((id) => memberIdFor(request.name, id, tag));
      return settlePart(agent, { groupId, attempt: taken.attempt, snapshotIds }, call);
    });
    await settleAll(settled);
    return { groupId, snapshotIds: taken.snapshotIds };
  } finally {
    attempt.lease.abort();
  }
}

/** Begins the part of a node, and returns what it says before the first step. */
async function beginPart(
  { id, groupId, request, call, lease }: Attempt,
  node: NodeOfGroup,
  { keepsRecord }: { readonly keepsRecord: boolean },
) {
  const { name, parameters, source_volume_ids } = request;
  const part = {
    group_id: groupId,
    attempt: id,
    name,
    parameters,
    source_volume_ids: node.volumeIds,
    group_volume_ids: keepsRecord ? source_volume_ids : [],
  };
  const caller = {
    signal: AbortSignal.any([lease.signal, call.signal]),
    deadlineMs: call.deadlineMs,
  };
  const stream = node.agent.stream({ service, rpc: 'TakeGroupPart', request: part }, caller);
  try {
    const first = await stream.next();
    if (first.done === true)
      throw new VolumeError('unavailable', `node '${node.agent.name}' ended its part`);
    // A step tells how the part has ended.
    stream.next().catch(() => undefined);
    return first.value;
  } catch (error) {
    if (!(error instanceof StatusError) || error.code !== status.UNIMPLEMENTED) throw error;
    throw new VolumeError(
      'wrong-state',
      `group snapshot '${name}': the driver of node '${node.agent.name}' is too old for groups over several nodes; upgrade it, or select volumes of one node`,
      { cause: error },
    );
  }
}

async function takeAll(
  attempt: Attempt,
  primary: Part,
  nodes: readonly NodeOfGroup[],
): Promise<{ readonly attempt: string; readonly snapshotIds: readonly string[] }> {
  const { id, groupId, request, call } = attempt;
  const others = await settleAll(
    nodes.map(async (node): Promise<Part> => {
      const { live_volume_ids: liveVolumeIds } = await beginPart(attempt, node, {
        keepsRecord: false,
      });
      return { ...node, liveVolumeIds };
    }),
  );
  const parts = [primary, ...others];
  requireOnePointInTime(request.name, parts);
  await step(attempt, parts, { step: 'flush' });
  await step(attempt, parts, { step: 'freeze' });
  await step(attempt, parts, { step: 'cut' });
  const createdAtMs = BigInt(Date.now());
  const thawed = await step(attempt, parts, { step: 'thaw' });
  const frozenMs = thawed.reduce(
    (most, { frozen_ms }) => (frozen_ms > most ? frozen_ms : most),
    0n,
  );
  let elsewhere: readonly GroupMember[];
  try {
    const prepared = await step(attempt, others, { step: 'prepare', created_at_ms: createdAtMs });
    elsewhere = prepared.flatMap(({ members }) => members);
  } catch (error) {
    const only = { groupId, attempt: id, snapshotIds: [] };
    for (const { agent } of others) void removePart(agent, only, call).catch(() => undefined);
    throw error;
  }
  const instant = { created_at_ms: createdAtMs, frozen_ms: frozenMs };
  const commit = { step: 'commit', ...instant, elsewhere } as const;
  const [committed] = await step(attempt, [primary], commit);
  const members = [...(committed?.members ?? []), ...elsewhere];
  return { attempt: id, snapshotIds: members.map(({ snapshot_id }) => snapshot_id) };
}

/** As the drivers do for volumes of one node: two devices that cannot be frozen are captured at different moments. */
function requireOnePointInTime(name: string, parts: readonly Part[]): void {
  const live = parts.flatMap(({ agent, liveVolumeIds }) =>
    liveVolumeIds.map((id) => `'${id}' on node '${agent.name}'`),
  );
  if (live.length <= 1) return;
  throw new VolumeError(
    'wrong-state',
    `group snapshot '${name}': block volumes ${live.join(', ')} are in use and cannot be frozen, so they cannot be captured at one point in time; stop the users of all but one`,
  );
}

/** Lets all these parts make a step, and waits for all. Throws the first failure, after which all parts end. */
async function step(
  { id, call, lease }: Attempt,
  parts: readonly NodeOfGroup[],
  request: Partial<AdvanceGroupPartRequest> & Pick<AdvanceGroupPartRequest, 'step'>,
): Promise<readonly AdvanceGroupPartResponse[]> {
  const nothing = { created_at_ms: 0n, frozen_ms: 0n, elsewhere: [] };
  const advance = { ...nothing, ...request, attempt: id };
  return settleAll(
    parts.map(async ({ agent }) => {
      try {
        return await agent.call({ service, rpc: 'AdvanceGroupPart', request: advance }, call);
      } catch (error) {
        // The others thaw at once.
        lease.abort();
        throw error;
      }
    }),
  );
}
