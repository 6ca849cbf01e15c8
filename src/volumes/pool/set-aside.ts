import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { entryFiles } from './layout.ts';

/** Why an entry of a pool is not used. */
export interface SetAside {
  /**
   * `unreadable`: its record is damaged or missing. `later-version`: a later version of the driver wrote it. `duplicate`: another
   * pool uses its id. Calls may delete only an unreadable entry, since the other two are intact.
   */
  readonly kind: 'unreadable' | 'later-version' | 'duplicate';
  /** For an operator, with the path of the entry. */
  readonly message: string;
  /** The entry is unreadable because its disk failed, so it may be intact. It is used as soon as it can be read. */
  readonly mayBeIntact?: boolean;
}

/** The error of a call for an entry that is set aside. */
export function setAsideError({ kind, message }: SetAside): VolumeError {
  return new VolumeError(kind === 'unreadable' ? 'internal' : 'wrong-state', message);
}

/** Throws `wrong-state` for an entry that only an operator may remove. */
export function requireRemovable(aside: SetAside | undefined): void {
  if (aside !== undefined && aside.kind !== 'unreadable') throw setAsideError(aside);
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
