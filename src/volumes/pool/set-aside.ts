import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { entryFiles } from './layout.ts';

/** Why an entry of a pool is there but may not be used: a message for a person, with its path. */
export interface SetAside {
  /**
   * `unreadable`: its record is damaged or missing. `later-version`: a later version of the driver wrote it. `duplicate`: another
   * pool uses its id. Only an unreadable one may be deleted over a call: the other two are whole.
   */
  readonly kind: 'unreadable' | 'later-version' | 'duplicate';
  readonly message: string;
  /** Of an unreadable one: its disk failed, so nobody knows. It is used as soon as it can be read. */
  readonly mayBeWhole?: boolean;
}

/** What a call is told that asks for an entry which is set aside. */
export function asideError({ kind, message }: SetAside): VolumeError {
  return new VolumeError(kind === 'unreadable' ? 'internal' : 'wrong-state', message);
}

/** Throws `wrong-state` for what only a person may remove. */
export function requireRemovable(aside: SetAside | undefined): void {
  if (aside !== undefined && aside.kind !== 'unreadable') throw asideError(aside);
}

/** What a person is told of an entry whose id another pool uses, or used when the entry was set aside. */
export function duplicateMessage(
  entry: string,
  { id, usedPoolName }: { readonly id: string; readonly usedPoolName?: string },
): string {
  const other = usedPoolName === undefined ? 'another pool' : `pool '${usedPoolName}'`;
  return (
    `'${id}' was found in ${other} too, so ${entry} is not used and is never deleted by the driver; ` +
    `look at it and move it out of the pool, or, to use it once the other one is deleted, remove ${join(entry, entryFiles.duplicate)}`
  );
}
