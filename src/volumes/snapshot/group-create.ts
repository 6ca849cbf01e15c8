import { messageOf, VolumeError } from '../../errors.ts';
import { type GroupRecord, groupRecord } from '../../state/records.ts';
import { reloadSetAside } from '../attachment/duplicates.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import type { Call, Operation } from '../engine/operations.ts';
import { type GroupId, groupIdFor, snapshotIdFor } from '../ids.ts';
import type { CreateGroupSnapshotInput, GroupSnapshot, Snapshot } from '../model.ts';
import { commitNew } from '../pool/commit.ts';
import type { Pool } from '../pool/pool.ts';
import { type Capture, planCapture } from './capture.ts';
import { groupOf, sameMembers } from './group.ts';
import { makeMembers, type NewMember, placeMember } from './group-members.ts';
import { RoomForCut } from './reservations.ts';

/** What one group may freeze at once: all of them stand still until the last is captured. */
const maxMembers = 64;

/**
 * CSI spec, CreateVolumeGroupSnapshot: finds the group of that name or takes it. All members show one instant: all are frozen,
 * all capture, all thawed. The group's record, in the pool of the first member, is the commit. Throws as CreateSnapshot does, and
 * `wrong-state` for more than one block volume in use, since those cannot be stopped together.
 */
export async function createGroupSnapshot(
  domain: Domain,
  call: Call,
  input: CreateGroupSnapshotInput,
): Promise<GroupSnapshot> {
  const { nodeTag } = domain.settings;
  const id = groupIdFor(input.name, nodeTag);
  requireMembers(input);
  const members = input.sourceVolumeIds.map((volumeId) => memberName(input.name, volumeId));
  return domain.operations.run(
    {
      name: 'CreateVolumeGroupSnapshot',
      owner: `group ${id}`,
      exclusive: [
        `group:${id}`,
        ...members.map((name) => `snapshot:${snapshotIdFor(name, nodeTag)}`),
      ],
      shared: input.sourceVolumeIds.map((volumeId) => `volume:${volumeId}`),
      request: input,
    },
    call,
    async (operation) => {
      await reloadSetAside(domain, { area: 'groups', id });
      const existing = domain.pools.findGroup(id);
      if (existing !== undefined) {
        existing.pool.requireServed();
        requireSameGroup(existing.record, input);
        await existing.pool.sync();
        return groupOf(domain, existing.record);
      }
      const what = `group snapshot '${input.name}'`;
      return withReason(what, undefined, () => takeGroup(domain, operation, { id, input, what }));
    },
  );
}

function requireMembers({ name, sourceVolumeIds }: CreateGroupSnapshotInput): void {
  if (sourceVolumeIds.length === 0) {
    throw new VolumeError('invalid', `group snapshot '${name}': source_volume_ids is empty`);
  }
  if (sourceVolumeIds.length > maxMembers) {
    throw new VolumeError(
      'invalid',
      `group snapshot '${name}': ${sourceVolumeIds.length} volumes are more than the ${maxMembers} that may stand still at once`,
    );
  }
  if (new Set(sourceVolumeIds).size !== sourceVolumeIds.length) {
    throw new VolumeError('invalid', `group snapshot '${name}' names a volume twice`);
  }
}

/** Holds a slash, so its id is a hash: no snapshot of a plain name can be meant. */
function memberName(groupName: string, volumeId: string): string {
  return `${groupName}/${volumeId}`;
}

function requireSameGroup(record: GroupRecord, input: CreateGroupSnapshotInput): void {
  const differences: string[] = [];
  if (record.name !== input.name) differences.push(`its name is '${record.name}'`);
  if (!sameMembers(record.sourceVolumeIds, input.sourceVolumeIds)) {
    differences.push(`its volumes are ${record.sourceVolumeIds.join(', ')}`);
  }
  if (differences.length === 0) return;
  throw new VolumeError(
    'conflict',
    `group snapshot '${input.name}' exists already and is another one: ${differences.join('; ')}; delete it first, or choose another name`,
  );
}

async function takeGroup(
  domain: Domain,
  operation: Operation,
  draft: { id: GroupId; input: CreateGroupSnapshotInput; what: string },
): Promise<GroupSnapshot> {
  const { input, what } = draft;
  const captures: Capture[] = [];
  for (const volumeId of input.sourceVolumeIds) {
    const source = domain.pools.getVolume(volumeId);
    const { pool } = source;
    captures.push(
      await planCapture(domain, source, { pool, freezeForCopy: input.settings.freeze, what }),
    );
  }
  requireOneInstant(captures, what);
  operation.beginEffects();
  const rooms = await reserveAll(captures, what);
  const members: NewMember[] = captures.map((capture) => ({
    capture,
    pool: capture.source.pool,
    id: snapshotIdFor(memberName(input.name, capture.source.record.id), domain.settings.nodeTag),
    name: memberName(input.name, capture.source.record.id),
    temporary: '',
  }));
  try {
    const made = await makeMembers(domain, operation, { ...draft, members, rooms });
    return await commitGroup(domain, operation, { ...draft, ...made });
  } finally {
    for (const { temporary } of members) {
      if (temporary !== '') await domain.host.files.removeTree(temporary);
    }
    for (const room of rooms.values()) room.release();
  }
}

/**
 * One device that cannot be frozen is captured while the others stand still, which is one instant still. Two of them are captured one
 * after the other, and what was written first to the one could be missing where the later write to the other is there.
 */
function requireOneInstant(captures: readonly Capture[], what: string): void {
  const live = captures.filter(({ isLive }) => isLive).map(({ source }) => source.record.id);
  if (live.length <= 1) return;
  throw new VolumeError(
    'wrong-state',
    `${what}: block volumes ${live.join(', ')} are in use and cannot be stopped together, so no one point in time can be had; stop the users of all but one`,
  );
}

async function reserveAll(
  captures: readonly Capture[],
  what: string,
): Promise<ReadonlyMap<Pool, RoomForCut>> {
  const bytes = new Map<Pool, bigint>();
  for (const { source, image } of captures) {
    bytes.set(source.pool, (bytes.get(source.pool) ?? 0n) + image.allocatedBytes);
  }
  const rooms = new Map<Pool, RoomForCut>();
  try {
    for (const [pool, sum] of bytes) rooms.set(pool, await RoomForCut.reserve(pool, sum, what));
  } catch (error) {
    for (const room of rooms.values()) room.release();
    throw error;
  }
  return rooms;
}

/** Renames the members into place, then the group, which makes them count; on a failure in between nothing of it stays. */
async function commitGroup(
  domain: Domain,
  operation: Operation,
  made: {
    id: GroupId;
    input: CreateGroupSnapshotInput;
    members: readonly (NewMember & { record: Snapshot['record'] })[];
    frozenMs: number;
    atMs: number;
  },
): Promise<GroupSnapshot> {
  const { id, input, members, frozenMs, atMs } = made;
  const placed: (typeof members)[number][] = [];
  let record: GroupRecord;
  let isCommitted = false;
  try {
    for (const member of members) {
      await placeMember(domain, member);
      placed.push(member);
      await domain.reached('group:member-renamed');
    }
    await domain.reached('group:members-renamed');
    const [first] = members;
    if (first === undefined) throw new Error('a group without members');
    record = await commitNew(domain, {
      pool: first.pool,
      area: 'groups',
      id,
      schema: groupRecord,
      images: [],
      placed: (group) => {
        isCommitted = true;
        first.pool.groups.put(group);
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
  } catch (error) {
    if (!isCommitted) for (const member of placed) await discardPlaced(domain, member);
    throw error;
  }
  operation.log.info({ groupId: id, members: members.length, frozenMs }, 'group snapshot taken');
  return groupOf(domain, record);
}

async function discardPlaced(domain: Domain, member: NewMember): Promise<void> {
  try {
    await domain.trash.discard(member.pool, 'snapshots', member.id);
  } catch (error) {
    domain.log.error(
      { snapshotId: member.id, problem: messageOf(error) },
      'a member of a failed group could not be removed; the next start does it',
    );
  }
}
