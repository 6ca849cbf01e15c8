import { join } from 'node:path';
import { settleAll } from '../../async.ts';
import { messageOf, VolumeError } from '../../errors.ts';
import { type GroupId, memberIdFor, memberNameOf, type SnapshotId } from '../../ids.ts';
import { type SnapshotRecord, snapshotRecord } from '../../state/records.ts';
import { reloadSetAside } from '../attachment/duplicates.ts';
import type { Domain } from '../domain.ts';
import { onDiskOf } from '../engine/lanes.ts';
import type { CreateGroupSnapshotInput } from '../model.ts';
import {
  completeEntry,
  createTemporaryDirectory,
  removeOrLog,
  renameIntoPlace,
} from '../pool/commit.ts';
import { imageFile } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import { setAsideError } from '../pool/set-aside.ts';
import {
  type Capture,
  type CaptureOptions,
  type CaptureResult,
  captureVolumes,
  planCapture,
} from './capture.ts';
import { type CaptureReservation, releaseAll, reserveUpTo } from './reservations.ts';
import { newSnapshotRecord } from './snapshot-record.ts';

/** A group snapshot, or the part of one, that is being taken. */
export interface GroupDraft {
  readonly id: GroupId;
  readonly input: CreateGroupSnapshotInput;
  readonly subject: string;
}

/** A member of a group snapshot that is being taken. */
export interface NewMember {
  readonly capture: Capture;
  readonly pool: Pool;
  readonly id: SnapshotId;
  readonly name: string;
  /** Its directory in `tmp/`; '' before that exists. */
  temporary: string;
}

export type BuiltMember = NewMember & { readonly record: SnapshotRecord };

const memberEntry = ({ pool, id }: NewMember) =>
  ({
    pool,
    area: 'snapshots',
    id,
    schema: snapshotRecord,
    images: [imageFile],
  }) as const;

/** Decides how each member is captured. Throws as `planCapture` does, and `conflict` if another group has one of the members. */
export async function planMembers(
  domain: Domain,
  draft: GroupDraft,
): Promise<readonly NewMember[]> {
  const { input, subject } = draft;
  const { nodeTag } = domain.settings;
  const members: NewMember[] = [];
  for (const volumeId of input.sourceVolumeIds) {
    const source = domain.pools.getVolume(volumeId);
    const { pool } = source;
    const options = { pool, freezeForCopy: input.settings.freeze, subject };
    const id = memberIdFor(input.name, volumeId, nodeTag);
    await requireUnused(domain, id, draft);
    members.push({
      capture: await planCapture(domain, source, options),
      pool,
      id,
      name: memberNameOf(input.name, volumeId),
      temporary: '',
    });
  }
  return members;
}

/** A group of that name may be on another node, and have a member here. */
async function requireUnused(
  domain: Domain,
  id: SnapshotId,
  { id: groupId, subject }: GroupDraft,
): Promise<void> {
  await reloadSetAside(domain, { area: 'snapshots', id });
  const record = domain.pools.findSnapshotRecord(id);
  if (record !== undefined && record.groupId !== groupId)
    throw otherOwnerError(subject, id, record.groupId);
  for (const { why } of domain.pools.findSetAside('snapshots', id)) {
    if (why.group === undefined) throw setAsideError(why);
    if (why.group.groupId !== groupId) throw otherOwnerError(subject, id, why.group.groupId);
  }
}

function otherOwnerError(subject: string, id: SnapshotId, owner: GroupId | null): VolumeError {
  const whose = owner === null ? 'no group' : `group '${owner}'`;
  return new VolumeError(
    'conflict',
    `${subject}: snapshot '${id}', which would be its member, exists already and belongs to ${whose}; choose another name, or delete that first`,
  );
}

/** Calls `work` while room for the members is reserved. Afterwards, what is left of them in `tmp/` is removed. */
export async function withRoomFor<T>(
  domain: Domain,
  { members, subject }: { readonly members: readonly NewMember[]; readonly subject: string },
  work: (reserved: CaptureReservation[]) => Promise<T>,
): Promise<T> {
  const reserved: CaptureReservation[] = [];
  try {
    for (const [pool, bytes] of bytesByPool(members)) {
      await reserveUpTo(reserved, { pool, bytes, subject });
    }
    return await work(reserved);
  } finally {
    releaseAll(reserved);
    for (const { temporary, pool, id } of members) {
      if (temporary !== '') await removeOrLog(domain, { pool, id }, temporary);
    }
  }
}

function bytesByPool(members: readonly NewMember[]): ReadonlyMap<Pool, bigint> {
  const bytes = new Map<Pool, bigint>();
  for (const { pool, capture } of members) {
    bytes.set(pool, (bytes.get(pool) ?? 0n) + capture.image.allocatedBytes);
  }
  return bytes;
}

/** Captures all members at one point in time, into directories in the `tmp/` of their pools. */
export async function captureMembers(
  domain: Domain,
  { members, reserved }: { members: readonly NewMember[]; reserved: CaptureReservation[] },
  options: CaptureOptions,
): Promise<CaptureResult> {
  for (const member of members)
    member.temporary = await createTemporaryDirectory(domain, member.pool, member.id);
  const captures = members.map(({ capture, temporary }) => ({
    capture,
    to: join(temporary, imageFile),
  }));
  const taken = await captureVolumes(domain, captures, options);
  await reserveCaptured(domain, { members, reserved, subject: options.subject });
  return taken;
}

/** Raises the reservations to the captured sizes, since sources may have been written to after the first reservation. */
async function reserveCaptured(
  domain: Domain,
  captured: { members: readonly NewMember[]; reserved: CaptureReservation[]; subject: string },
): Promise<void> {
  const { members, reserved, subject } = captured;
  for (const pool of new Set(members.map((member) => member.pool))) {
    let bytes = 0n;
    for (const member of members) {
      if (member.pool !== pool) continue;
      const image = join(member.temporary, imageFile);
      bytes += (await domain.host.files.imageStatus(image)).allocatedBytes;
    }
    await reserveUpTo(reserved, { pool, bytes, subject });
  }
}

/** Completes each captured member in its pool's `tmp/`. `prepared` is for members whose group has its record on another node. */
export async function completeMembers(
  domain: Domain,
  { id: groupId, input }: GroupDraft,
  captured: {
    readonly members: readonly NewMember[];
    readonly taken: CaptureResult;
    readonly prepared?: { readonly attempt: string };
  },
): Promise<readonly BuiltMember[]> {
  const { members, taken, prepared } = captured;
  const groupPool = prepared === undefined ? (members[0]?.pool.marker?.uuid ?? null) : null;
  // Waits for all even if one fails: their directories are then removed, and must not be written to any more.
  const built = await settleAll(
    members.map(async (member) => {
      const { capture, id, name, temporary } = member;
      const deps = onDiskOf(domain, member.pool);
      await deps.host.files.makeReadOnly(join(temporary, imageFile));
      const draft = { id, name, groupId, groupPool, parameters: input.parameters };
      const record = newSnapshotRecord(
        capture,
        prepared === undefined ? draft : { ...draft, prepared },
        taken,
      );
      await completeEntry(deps, memberEntry(member), { temporary, record });
      return { ...member, record };
    }),
  );
  await domain.reached('group:members-made');
  return built;
}

/** Renames all members into place. They do not count yet. If one cannot be, discards the others. */
export async function placeMembers(domain: Domain, members: readonly BuiltMember[]): Promise<void> {
  const placed: BuiltMember[] = [];
  try {
    for (const member of members) {
      await placeMember(domain, member);
      placed.push(member);
      await domain.reached('group:member-renamed');
    }
    await domain.reached('group:members-renamed');
  } catch (error) {
    await discardMembers(domain, placed);
    throw error;
  }
}

async function placeMember(domain: Domain, member: BuiltMember): Promise<void> {
  const { pool, id, temporary, record } = member;
  const deps = onDiskOf(domain, pool);
  const place = () => renameIntoPlace(deps, memberEntry(member), { temporary, record });
  const existing = await place();
  if (existing === record) return;
  if (existing.groupId !== record.groupId)
    throw otherOwnerError(`snapshot '${id}'`, id, existing.groupId);
  // An earlier, failed group could not remove this member, which is of another point in time.
  await domain.trash.discard(deps.host, pool, 'snapshots', id);
  await place();
}

/** Removes members that were renamed into place, because their group could not be committed. */
export async function discardMembers(
  domain: Domain,
  members: readonly BuiltMember[],
): Promise<void> {
  for (const { pool, id } of members) {
    try {
      await domain.trash.discard(domain.host, pool, 'snapshots', id);
    } catch (error) {
      domain.log.error(
        { snapshotId: id, problem: messageOf(error) },
        'a member of a failed group snapshot could not be removed; the next start removes it',
      );
    }
  }
}
