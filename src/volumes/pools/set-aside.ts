import { VolumeError } from '../../errors.ts';

/** Why an entry of a pool is there but may not be used: a message for a person, with its path. */
export interface SetAside {
  /**
   * `unreadable`: its record is damaged or missing. `later-version`: a later version of the driver wrote it. `twin`: another
   * pool uses its id. Only an unreadable one may be deleted over a call: the other two are whole.
   */
  readonly kind: 'unreadable' | 'later-version' | 'twin';
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
