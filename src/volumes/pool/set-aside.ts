import { join } from 'node:path';
import { type Reason, VolumeError } from '../../errors.ts';
import type { GroupId } from '../../ids.ts';
import type { SnapshotRecord } from '../../state/records.ts';
import { entryFiles } from './layout.ts';

/** Why an entry of a pool is not used. */
export interface SetAside {
  /**
   * `unreadable`: its record is damaged or missing. `later-version`: a later version of the driver wrote it. `duplicate`: another
   * pool uses its id. `undecided`: a member of a group snapshot over several nodes, of which this node does not know yet whether it
   * exists. Calls may not delete an entry of a later version or a duplicate, since these are intact.
   */
  readonly kind: 'unreadable' | 'later-version' | 'duplicate' | 'undecided';
  /** For an operator, with the path of the entry. */
  readonly message: string;
  /** The entry is unreadable because its disk failed, so it may be intact. It is used as soon as it can be read. */
  readonly mayBeIntact?: boolean;
  /** Of an undecided member: its group, and the attempt to take it. */
  readonly group?: UndecidedGroup;
}

export interface UndecidedGroup {
  readonly groupId: GroupId;
  readonly attempt: string;
}

const reasonOf = {
  unreadable: 'internal',
  'later-version': 'wrong-state',
  duplicate: 'wrong-state',
  undecided: 'unavailable',
} as const satisfies Record<SetAside['kind'], Reason>;

/** The error of a call for an entry that is set aside. */
export function setAsideError({ kind, message }: SetAside): VolumeError {
  return new VolumeError(reasonOf[kind], message);
}

/** Throws `wrong-state` for an entry that only an operator may remove. */
export function requireRemovable(aside: SetAside | undefined): void {
  if (aside?.kind === 'later-version' || aside?.kind === 'duplicate') throw setAsideError(aside);
}

/** A member of a group is not used before it is known that the group exists; undefined for any other snapshot. */
export function findUndecided({
  id,
  groupId,
  prepared,
}: Pick<SnapshotRecord, 'id' | 'groupId' | 'prepared'>): SetAside | undefined {
  if (groupId === null || prepared === undefined || prepared === null) return undefined;
  return {
    kind: 'undecided',
    message: `it is not decided yet whether snapshot '${id}' and its group '${groupId}' exist; the controller decides that as soon as it reaches the node of the group; start the controller and that node's driver`,
    group: { groupId, attempt: prepared.attempt },
  };
}

/** The message for an entry whose id another pool uses, or used when the entry was set aside. */
export function duplicateMessage(
  entry: string,
  { id, usedPoolName }: { readonly id: string; readonly usedPoolName?: string },
): string {
  const other = usedPoolName === undefined ? 'another pool' : `pool '${usedPoolName}'`;
  return (
    `the id '${id}' also exists in ${other}, so ${entry} is not used, and the driver never deletes it; ` +
    `inspect it and move it out of the pool, or, to use it after the other entry is deleted, remove ${join(entry, entryFiles.duplicate)}`
  );
}
