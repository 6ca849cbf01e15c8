import { messageOf, VolumeError } from '../../errors.ts';
import { type GroupId, groupIdFor, snapshotIdFor } from '../../ids.ts';
import { type GroupRecord, groupRecord } from '../../state/records.ts';
import { reloadSetAside } from '../attachment/duplicates.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import { volumeLock } from '../engine/locks.ts';
import type { Call, Operation } from '../engine/operations.ts';
import type { CreateGroupSnapshotInput, GroupSnapshot } from '../model.ts';
import { commitNew } from '../pool/commit.ts';
import type { Pool } from '../pool/pool.ts';
import { type Capture, planCapture } from './capture.ts';
import { areSameMembers, groupOf } from './group-get.ts';
import { type BuiltMember, buildMembers, type NewMember, placeMember } from './group-members.ts';
import { type CaptureReservation, releaseAll, reserveUpTo } from './reservations.ts';

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
  const members = input.sourceVolumeIds.map((volumeId) => memberName(input.name, volumeId));
  return domain.operations.run(
    domain,
    call,
    {
      name: 'CreateVolumeGroupSnapshot',
      lane: { kind: 'group', id },
      exclusive: [
        `group:${id}`,
        ...members.map((name) => `snapshot:${snapshotIdFor(name, nodeTag)}`),
      ],
      shared: input.sourceVolumeIds.map(volumeLock),
      request: input,
    },
    async (domain, operation) => {
      await reloadSetAside(domain, { area: 'groups', id });
      const existing = domain.pools.findGroup(id);
      if (existing !== undefined) {
        existing.pool.requireServed();
        requireSameGroup(existing.record, input);
        await existing.pool.sync();
        return groupOf(domain.pools, existing.record);
      }
      const subject = `group snapshot '${input.name}'`;
      return withReason(domain, { subject, disk: undefined }, (domain) =>
        takeGroup(domain, operation, { id, input, subject }),
      );
    },
  );
}

function requireValidMembers({ name, sourceVolumeIds }: CreateGroupSnapshotInput): void {
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

/** The slash makes the id a hash, so that it cannot collide with the id of a snapshot that has a plain name. */
function memberName(groupName: string, volumeId: string): string {
  return `${groupName}/${volumeId}`;
}

function requireSameGroup(record: GroupRecord, input: CreateGroupSnapshotInput): void {
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
  draft: { id: GroupId; input: CreateGroupSnapshotInput; subject: string },
): Promise<GroupSnapshot> {
  const { input, subject } = draft;
  const captures: Capture[] = [];
  for (const volumeId of input.sourceVolumeIds) {
    const source = domain.pools.getVolume(volumeId);
    const { pool } = source;
    captures.push(
      await planCapture(domain, source, { pool, freezeForCopy: input.settings.freeze, subject }),
    );
  }
  requireOnePointInTime(captures, subject);
  operation.beginEffects();
  const members: NewMember[] = captures.map((capture) => ({
    capture,
    pool: capture.source.pool,
    id: snapshotIdFor(memberName(input.name, capture.source.record.id), domain.settings.nodeTag),
    name: memberName(input.name, capture.source.record.id),
    temporary: '',
  }));
  const reserved: CaptureReservation[] = [];
  try {
    for (const [pool, bytes] of bytesByPool(captures)) {
      await reserveUpTo(reserved, { pool, bytes, subject });
    }
    const built = await buildMembers(domain, operation, { ...draft, members, reserved });
    return await commitGroup(domain, operation, { ...draft, ...built });
  } finally {
    for (const { temporary } of members) {
      if (temporary !== '') await domain.host.files.removeTree(temporary);
    }
    releaseAll(reserved);
  }
}

/**
 * One device that cannot be frozen is captured while the others are frozen, which is still one point in time. Two such devices are
 * captured at different moments, so one capture could contain a write whose predecessor is missing from the other.
 */
function requireOnePointInTime(captures: readonly Capture[], subject: string): void {
  const live = captures.filter(({ isLive }) => isLive).map(({ source }) => source.record.id);
  if (live.length <= 1) return;
  throw new VolumeError(
    'wrong-state',
    `${subject}: block volumes ${live.join(', ')} are in use and cannot be frozen, so they cannot be captured at one point in time; stop the users of all but one`,
  );
}

function bytesByPool(captures: readonly Capture[]): ReadonlyMap<Pool, bigint> {
  const bytes = new Map<Pool, bigint>();
  for (const { source, image } of captures) {
    bytes.set(source.pool, (bytes.get(source.pool) ?? 0n) + image.allocatedBytes);
  }
  return bytes;
}

interface NewGroup {
  readonly id: GroupId;
  readonly input: CreateGroupSnapshotInput;
  readonly members: readonly BuiltMember[];
  readonly frozenMs: number;
  readonly atMs: number;
}

/**
 * Renames the members into place, then commits the record of the group, without which they do not count. If that fails, discards
 * the members.
 */
async function commitGroup(
  domain: Domain,
  operation: Operation,
  group: NewGroup,
): Promise<GroupSnapshot> {
  const { id, members, frozenMs } = group;
  const placed: BuiltMember[] = [];
  let record: GroupRecord;
  let isCommitted = false;
  try {
    for (const member of members) {
      await placeMember(domain, member);
      placed.push(member);
      await domain.reached('group:member-renamed');
    }
    await domain.reached('group:members-renamed');
    record = await commitRecord(domain, group, () => {
      isCommitted = true;
    });
  } catch (error) {
    if (!isCommitted) for (const member of placed) await discardMember(domain, member);
    throw error;
  }
  operation.log.info(
    { groupId: id, members: members.length, frozenMs },
    'a group snapshot was taken',
  );
  return groupOf(domain.pools, record);
}

async function commitRecord(
  domain: Domain,
  { id, input, members, frozenMs, atMs }: NewGroup,
  onCommit: () => void,
): Promise<GroupRecord> {
  const [first] = members;
  if (first === undefined) throw new Error('a group without members');
  return commitNew(domain, {
    pool: first.pool,
    area: 'groups',
    id,
    schema: groupRecord,
    images: [],
    onRenamed: () => {
      onCommit();
      for (const member of members) member.pool.snapshots.put(member.record);
    },
    build: async () => ({
      schemaVersion: 1 as const,
      id,
      name: input.name,
      sourceVolumeIds: members.map(({ record: { sourceVolumeId } }) => sourceVolumeId),
      snapshotIds: members.map((member) => member.id),
      frozenMs,
      parameters: { ...input.parameters },
      createdAtMs: atMs,
    }),
  });
}

async function discardMember(domain: Domain, member: NewMember): Promise<void> {
  try {
    await domain.trash.discard(domain.host, member.pool, 'snapshots', member.id);
  } catch (error) {
    domain.log.error(
      { snapshotId: member.id, problem: messageOf(error) },
      'a member of a failed group snapshot could not be removed; the next start removes it',
    );
  }
}
