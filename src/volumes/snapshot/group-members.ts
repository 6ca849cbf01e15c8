import { join } from 'node:path';
import { settleAll } from '../../async.ts';
import type { GroupId, SnapshotId } from '../../ids.ts';
import { type SnapshotRecord, snapshotRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { onDiskOf } from '../engine/lanes.ts';
import type { Operation } from '../engine/operations.ts';
import type { CreateGroupSnapshotInput } from '../model.ts';
import { completeEntry, createTemporaryDirectory, renameIntoPlace } from '../pool/commit.ts';
import { imageFile } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import { type Capture, type CaptureResult, captureVolumes } from './capture.ts';
import { type CaptureReservation, reserveUpTo } from './reservations.ts';
import { newSnapshotRecord } from './snapshot-record.ts';

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

/** Captures all members at one point in time and completes each in its pool's `tmp/`. */
export async function buildMembers(
  domain: Domain,
  operation: Operation,
  draft: {
    id: GroupId;
    input: CreateGroupSnapshotInput;
    subject: string;
    members: readonly NewMember[];
    reserved: CaptureReservation[];
  },
): Promise<CaptureResult & { readonly members: readonly BuiltMember[] }> {
  const { id: groupId, input, subject, members, reserved } = draft;
  const groupPool = members[0]?.pool.marker?.uuid ?? null;
  for (const member of members)
    member.temporary = await createTemporaryDirectory(domain, member.pool, member.id);
  const captures = members.map(({ capture, temporary }) => ({
    capture,
    to: join(temporary, imageFile),
  }));
  const taken = await captureVolumes(domain, captures, { subject, signal: operation.signal });
  await reserveCaptured(domain, { members, reserved, subject });
  // Waits for all even if one fails: their directories are then removed, and must not be written to any more.
  const builtMembers = await settleAll(
    members.map(async (member) => {
      const { capture, id, name, temporary } = member;
      const deps = onDiskOf(domain, member.pool);
      await deps.host.files.makeReadOnly(join(temporary, imageFile));
      const record = newSnapshotRecord(
        capture,
        { id, name, groupId, groupPool, parameters: input.parameters },
        taken,
      );
      await completeEntry(deps, memberEntry(member), { temporary, record });
      return { ...member, record };
    }),
  );
  await domain.reached('group:members-made');
  return { members: builtMembers, ...taken };
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

/** Renames a member into place. It becomes visible when its group is committed. */
export async function placeMember(domain: Domain, member: BuiltMember): Promise<void> {
  const { pool, id, temporary, record } = member;
  const deps = onDiskOf(domain, pool);
  const place = () => renameIntoPlace(deps, memberEntry(member), { temporary, record });
  const existing = await place();
  if (existing === record) return;
  // An earlier, failed group could not remove this member, which is of another point in time.
  await domain.trash.discard(deps.host, pool, 'snapshots', id);
  await place();
}
