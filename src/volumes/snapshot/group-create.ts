import { VolumeError } from '../../errors.ts';
import { type GroupId, groupIdFor, memberIdFor } from '../../ids.ts';
import { type GroupRecord, groupRecord, type MemberElsewhere } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import { volumeLock } from '../engine/locks.ts';
import type { Call, Operation } from '../engine/operations.ts';
import type { CreateGroupSnapshotInput, GroupSnapshot } from '../model.ts';
import { commitNew } from '../pool/commit.ts';
import { areSameMembers, findGroup, groupOf } from './group-get.ts';
import {
  type BuiltMember,
  captureMembers,
  completeMembers,
  discardMembers,
  type GroupDraft,
  type NewMember,
  placeMembers,
  planMembers,
  withRoomFor,
} from './group-members.ts';

/** All members stay frozen until the last one is captured, so their number is limited. */
const maxMembers = 64;

/**
 * CSI spec, CreateVolumeGroupSnapshot: returns the group with that name, or takes it. All members are of one point in time: all are
 * frozen, then all captured, then all thawed. The record of the group, in the pool of the first member, is the commit. Throws as
 * CreateSnapshot does, and `wrong-state` for more than one block volume in use, since those cannot be frozen.
 */
export async function createGroupSnapshot(
  domain: Domain,
  call: Call,
  input: CreateGroupSnapshotInput,
): Promise<GroupSnapshot> {
  const { nodeTag } = domain.settings;
  const id = groupIdFor(input.name, nodeTag);
  requireValidMembers(input);
  const members = input.sourceVolumeIds.map((one) => memberIdFor(input.name, one, nodeTag));
  return domain.operations.run(
    domain,
    call,
    {
      name: 'CreateVolumeGroupSnapshot',
      lane: { kind: 'group', id },
      exclusive: [`group:${id}`, ...members.map((one) => `snapshot:${one}`)],
      shared: input.sourceVolumeIds.map(volumeLock),
      request: input,
    },
    async (domain, operation) => {
      const existing = await findSameGroup(domain, id, input);
      if (existing !== undefined) return groupOf(domain.pools, existing);
      const subject = `group snapshot '${input.name}'`;
      return withReason(domain, { subject, disk: undefined }, (domain) =>
        takeGroup(domain, operation, { id, input, subject }),
      );
    },
  );
}

/** Throws `invalid` for a list of volumes that cannot be frozen together. */
export function requireValidMembers({
  name,
  sourceVolumeIds,
}: Pick<CreateGroupSnapshotInput, 'name' | 'sourceVolumeIds'>): void {
  if (sourceVolumeIds.length === 0) {
    throw new VolumeError(
      'invalid',
      `group snapshot '${name}': source_volume_ids is empty; name at least one volume`,
    );
  }
  if (sourceVolumeIds.length > maxMembers) {
    throw new VolumeError(
      'invalid',
      `group snapshot '${name}': ${sourceVolumeIds.length} volumes are more than the ${maxMembers} that may be frozen at once; name fewer volumes`,
    );
  }
  if (new Set(sourceVolumeIds).size !== sourceVolumeIds.length) {
    throw new VolumeError(
      'invalid',
      `group snapshot '${name}': source_volume_ids names a volume twice; name each volume once`,
    );
  }
}

/** The record of the group, durable, if it exists. Throws `conflict` if it was asked for with other arguments. */
export async function findSameGroup(
  domain: Domain,
  id: GroupId,
  input: Pick<CreateGroupSnapshotInput, 'name' | 'sourceVolumeIds'>,
): Promise<GroupRecord | undefined> {
  const existing = await findGroup(domain, id);
  if (existing === undefined) return undefined;
  existing.pool.requireServed();
  requireSameGroup(existing.record, input);
  await existing.pool.sync();
  return existing.record;
}

function requireSameGroup(
  record: GroupRecord,
  input: Pick<CreateGroupSnapshotInput, 'name' | 'sourceVolumeIds'>,
): void {
  const differences: string[] = [];
  if (record.name !== input.name) differences.push(`its name is '${record.name}'`);
  if (!areSameMembers(record.sourceVolumeIds, input.sourceVolumeIds)) {
    differences.push(`its volumes are ${record.sourceVolumeIds.join(', ')}`);
  }
  if (differences.length === 0) return;
  throw new VolumeError(
    'conflict',
    `group snapshot '${input.name}' already exists with other arguments: ${differences.join('; ')}; delete it first, or choose another name`,
  );
}

async function takeGroup(
  domain: Domain,
  operation: Operation,
  draft: GroupDraft,
): Promise<GroupSnapshot> {
  const { subject } = draft;
  const members = await planMembers(domain, draft);
  requireOnePointInTime(members, subject);
  operation.beginEffects();
  return withRoomFor(domain, { members, subject }, async (reserved) => {
    const options = { subject, signal: operation.signal };
    const taken = await captureMembers(domain, { members, reserved }, options);
    const built = await completeMembers(domain, draft, { members, taken });
    return commitGroup(domain, operation, { ...draft, ...taken, members: built });
  });
}

/**
 * One device that cannot be frozen is captured while the others are frozen, which is still one point in time. Two such devices are
 * captured at different moments, so one capture could contain a write whose predecessor is missing from the other.
 */
function requireOnePointInTime(members: readonly NewMember[], subject: string): void {
  const live = liveVolumeIds(members);
  if (live.length <= 1) return;
  throw new VolumeError(
    'wrong-state',
    `${subject}: block volumes ${live.join(', ')} are in use and cannot be frozen, so they cannot be captured at one point in time; stop the users of all but one`,
  );
}

/** The block volumes in use among the members, which cannot be frozen. */
export function liveVolumeIds(members: readonly NewMember[]): readonly string[] {
  return members.filter(({ capture }) => capture.isLive).map((one) => one.capture.source.record.id);
}

/** A group whose members are complete in `tmp/`. */
export interface NewGroup extends GroupDraft {
  readonly members: readonly BuiltMember[];
  readonly frozenMs: number;
  readonly atMs: number;
  /** Of a group over several nodes. */
  readonly others?: {
    readonly attempt: string;
    readonly elsewhere: readonly MemberElsewhere[];
    /** All of the group, in the order of the request. */
    readonly volumeIds: readonly string[];
  };
}

/**
 * Renames the members into place, then commits the record of the group, without which they do not count. If that fails, discards
 * the members.
 */
export async function commitGroup(
  domain: Domain,
  operation: Operation,
  group: NewGroup,
): Promise<GroupSnapshot> {
  const { id, members, frozenMs } = group;
  await placeMembers(domain, members);
  let record: GroupRecord;
  let isCommitted = false;
  try {
    record = await commitRecord(domain, group, () => {
      isCommitted = true;
    });
    if (!isCommitted) {
      throw new VolumeError(
        'unavailable',
        `group snapshot '${group.input.name}': the record of an earlier attempt was found; repeat the call`,
      );
    }
  } catch (error) {
    if (!isCommitted) await discardMembers(domain, members);
    throw error;
  }
  operation.log.info(
    { groupId: id, members: record.snapshotIds.length, frozenMs },
    'a group snapshot was taken',
  );
  return groupOf(domain.pools, record);
}

async function commitRecord(
  domain: Domain,
  group: NewGroup,
  onCommit: () => void,
): Promise<GroupRecord> {
  const { id, members } = group;
  const [first] = members;
  if (first === undefined) throw new Error('a group without members');
  return commitNew(domain, {
    pool: first.pool,
    area: 'groups',
    id,
    schema: groupRecord,
    images: [],
    onRenamed: (record) => {
      // The members are of this attempt.
      if (record.attempt !== (group.others?.attempt ?? '')) return;
      onCommit();
      for (const member of members) member.pool.snapshots.put(member.record);
    },
    build: async () => newGroupRecord(group),
  });
}

function newGroupRecord({
  id,
  input,
  members,
  frozenMs,
  atMs,
  others = { attempt: '', elsewhere: [], volumeIds: [] },
}: NewGroup): GroupRecord {
  const own = members.map(({ record }) => ({
    snapshotId: record.id,
    sourceVolumeId: record.sourceVolumeId,
  }));
  const rankOf = (volumeId: string): number => others.volumeIds.indexOf(volumeId);
  const all = [...own, ...others.elsewhere].sort(
    (a, b) => rankOf(a.sourceVolumeId) - rankOf(b.sourceVolumeId),
  );
  return {
    schemaVersion: 1,
    id,
    name: input.name,
    sourceVolumeIds: all.map(({ sourceVolumeId }) => sourceVolumeId),
    snapshotIds: all.map(({ snapshotId }) => snapshotId),
    elsewhere: [...others.elsewhere],
    attempt: others.attempt,
    frozenMs,
    parameters: { ...input.parameters },
    createdAtMs: atMs,
  };
}
