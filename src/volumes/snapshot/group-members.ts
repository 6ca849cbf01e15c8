import { join } from 'node:path';
import { onDisk } from '../../host/kernel/gate.ts';
import { type SnapshotRecord, snapshotRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import type { Operation } from '../engine/operations.ts';
import type { GroupId, SnapshotId } from '../ids.ts';
import type { CreateGroupSnapshotInput } from '../model.ts';
import { finishNew, newDirectory, placeNew } from '../pool/commit.ts';
import { imageFile } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import { type Capture, takeCaptures } from './capture.ts';
import type { RoomForCut } from './reservations.ts';
import { newSnapshotRecord } from './snapshot-record.ts';

/** A member of a group that is being made. */
export interface NewMember {
  readonly capture: Capture;
  readonly pool: Pool;
  readonly id: SnapshotId;
  readonly name: string;
  /** Its directory in `tmp/`; '' before it is made. */
  temporary: string;
}

const entryOf = ({ pool, id }: NewMember) =>
  ({
    pool,
    area: 'snapshots',
    id,
    schema: snapshotRecord,
    images: [imageFile],
  }) as const;

/** Captures all members at one instant and makes each whole in its pool's `tmp/`. */
export async function makeMembers(
  domain: Domain,
  operation: Operation,
  draft: {
    id: GroupId;
    input: CreateGroupSnapshotInput;
    what: string;
    members: readonly NewMember[];
    rooms: ReadonlyMap<Pool, RoomForCut>;
  },
): Promise<{
  members: readonly (NewMember & { record: SnapshotRecord })[];
  frozenMs: number;
  atMs: number;
}> {
  const { id: groupId, input, what, members, rooms } = draft;
  const groupPool = members[0]?.pool.marker?.uuid ?? null;
  for (const member of members)
    member.temporary = await newDirectory(domain, member.pool, member.id);
  const captures = members.map(({ capture, temporary }) => ({
    capture,
    to: join(temporary, imageFile),
  }));
  const taken = await takeCaptures(domain, captures, { what, signal: operation.signal });
  await holdRoom(domain, members, rooms);
  const made = await allOf(
    members.map(async (member) => {
      const { capture, id, name, temporary } = member;
      await domain.host.files.makeReadOnly(join(temporary, imageFile));
      const record = newSnapshotRecord(
        capture,
        { id, name, groupId, groupPool, parameters: input.parameters },
        taken,
      );
      await onDisk(member.pool.name, () =>
        finishNew(domain, entryOf(member), { temporary, record }),
      );
      return { ...member, record };
    }),
  );
  await domain.reached('group:members-made');
  return { members: made, ...taken };
}

/** Waits for all, also when one fails: what is to be removed then must not be written to any more. */
async function allOf<T>(works: readonly Promise<T>[]): Promise<readonly T[]> {
  await Promise.allSettled(works);
  return Promise.all(works);
}

/** Sources may have been written to since the room was reserved. */
async function holdRoom(
  domain: Domain,
  members: readonly NewMember[],
  rooms: ReadonlyMap<Pool, RoomForCut>,
): Promise<void> {
  for (const [pool, room] of rooms) {
    let bytes = 0n;
    for (const member of members) {
      if (member.pool !== pool) continue;
      const image = join(member.temporary, imageFile);
      bytes += (await domain.host.files.imageStatus(image)).allocatedBytes;
    }
    await room.extendTo(bytes);
  }
}

/** Renames a member into place. It counts once its group does. */
export async function placeMember(
  domain: Domain,
  member: NewMember & { record: SnapshotRecord },
): Promise<void> {
  const { pool, id, temporary, record } = member;
  const place = () =>
    onDisk(pool.name, () => placeNew(domain, entryOf(member), { temporary, record }));
  const stands = await place();
  if (stands === record) return;
  // Left by a group that failed and could not be removed: it shows another instant.
  await domain.trash.discard(pool, 'snapshots', id);
  await place();
}
