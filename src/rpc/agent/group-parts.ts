/** The calls by which the controller takes a group snapshot over several nodes. */
import type {
  AdvanceGroupPartRequest,
  GroupMember,
  TakeGroupPartRequest,
  TakeGroupPartResponse,
} from '../../csi/agent-types.ts';
import { VolumeError } from '../../errors.ts';
import { parseSnapshotId, parseVolumeId } from '../../ids.ts';
import type { GroupPartInput, GroupPartStart, GroupStep, Snapshot } from '../../volumes/model.ts';
import { parseSnapshotParameters } from '../../volumes/parameters/storage-class.ts';
import type { CsiContext } from '../context.ts';
import type { Implementation } from '../handlers.ts';
import { requireText } from '../validate.ts';

export const groupPartCalls = [
  ['TakeGroupPart', { logClass: 'change', offered: true }],
  ['AdvanceGroupPart', { logClass: 'read', offered: true }],
  ['FindGroup', { logClass: 'read', offered: true }],
  ['SettleGroupPart', { logClass: 'change', offered: true }],
  ['RemoveGroupPart', { logClass: 'change', offered: true }],
] as const;

export function groupPartMethods({
  volumes,
  thisNode,
}: CsiContext): Implementation<'loopcsi.agent.v1.Agent'> {
  return {
    async *TakeGroupPart(request, call) {
      for await (const start of volumes.takeGroupPart(call, parsePart(request)))
        yield startMessage(start);
    },

    async AdvanceGroupPart(request) {
      const attempt = requireText(request.attempt, 'attempt');
      const done = await volumes.advanceGroupPart(attempt, parseStep(request));
      const members = (done.members ?? []).map((one) => memberMessage(one, thisNode.nodeId));
      return { frozen_ms: BigInt(done.frozenMs ?? 0), members };
    },

    async FindGroup({ group_id }) {
      const state = await volumes.findGroupState(requireText(group_id, 'group_id'));
      return { state: state.kind, attempt: state.kind === 'exists' ? state.attempt : '' };
    },

    async SettleGroupPart(request, call) {
      await volumes.settleGroupPart(call, {
        groupId: requireText(request.group_id, 'group_id'),
        attempt: requireText(request.attempt, 'attempt'),
        snapshotIds: request.snapshot_ids,
      });
      return {};
    },

    async RemoveGroupPart({ group_id, attempt, snapshot_ids: snapshotIds }, call) {
      const groupId = requireText(group_id, 'group_id');
      const only = attempt === '' ? undefined : attempt;
      await volumes.removeGroupPart(call, { groupId, attempt: only, snapshotIds });
      return {};
    },
  };
}

function parsePart(request: TakeGroupPartRequest): GroupPartInput {
  const { parameters, source_volume_ids, group_volume_ids } = request;
  return {
    groupId: requireText(request.group_id, 'group_id'),
    attempt: requireText(request.attempt, 'attempt'),
    name: requireText(request.name, 'name'),
    sourceVolumeIds: source_volume_ids,
    settings: parseSnapshotParameters(parameters),
    parameters,
    groupVolumeIds: group_volume_ids.length === 0 ? undefined : group_volume_ids,
  };
}

function startMessage(start: GroupPartStart): TakeGroupPartResponse {
  const nothing = { exists: false, attempt: '', snapshot_ids: [], live_volume_ids: [] };
  if (start.kind === 'planned') return { ...nothing, live_volume_ids: start.liveVolumeIds };
  const { attempt, snapshotIds } = start.record;
  return { ...nothing, exists: true, attempt, snapshot_ids: snapshotIds };
}

function parseStep(request: AdvanceGroupPartRequest): GroupStep {
  const { step, created_at_ms, frozen_ms, elsewhere } = request;
  const createdAtMs = Number(created_at_ms);
  switch (step) {
    case 'flush':
    case 'freeze':
    case 'cut':
    case 'thaw':
      return { kind: step };
    case 'prepare':
      return { kind: step, createdAtMs };
    case 'commit':
      return {
        kind: step,
        createdAtMs,
        frozenMs: Number(frozen_ms),
        elsewhere: elsewhere.map(parseMember),
      };
    default:
      throw new VolumeError('invalid', `step '${step.slice(0, 64)}' is unknown`);
  }
}

type MemberElsewhere = Extract<GroupStep, { kind: 'commit' }>['elsewhere'][number];

function parseMember(member: GroupMember): MemberElsewhere {
  const snapshotId = parseSnapshotId(member.snapshot_id);
  const sourceVolumeId = parseVolumeId(member.source_volume_id);
  if (snapshotId === undefined || sourceVolumeId === undefined)
    throw new VolumeError('invalid', 'elsewhere names a member that is not of this driver');
  const nodeId = requireText(member.node_id, 'node_id');
  return { snapshotId, sourceVolumeId, sizeBytes: member.size_bytes, nodeId };
}

function memberMessage(
  { id, sourceVolumeId, sizeBytes }: Snapshot['record'],
  nodeId: string,
): GroupMember {
  return {
    snapshot_id: id,
    source_volume_id: sourceVolumeId,
    size_bytes: sizeBytes,
    node_id: nodeId,
  };
}
