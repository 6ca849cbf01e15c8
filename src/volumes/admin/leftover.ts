/** What `gc` lists and removes. */

type LeftoverKind =
  /** A loop device of the driver whose image is no volume, or whose volume is not in use. */
  | 'loop-device'
  /** An entry of `tmp/` that no call works on. */
  | 'incomplete-entry'
  /** A deleted entry whose removal failed. */
  | 'deleted-entry'
  /** An empty directory in which the driver mounted a volume. */
  | 'mount-directory'
  /** Files of a copy that is complete. */
  | 'copy-progress'
  /** A file or directory of a pool that has no record. */
  | 'entry-without-record'
  /** A pool that was seen at a directory and is not there any more. */
  | 'vanished-pool'
  /** The file that says that Docker knows a volume, of a pool that this node does not know any more. */
  | 'known-volume';

export interface Leftover {
  readonly kind: LeftoverKind;
  /** The path of the file, directory or device. */
  readonly path: string;
  /** The name of the pool; '' for a leftover outside all pools. */
  readonly pool: string;
  /** Space that it occupies. */
  readonly bytes: bigint;
  readonly why: string;
  /** What an operator may do; '' if the driver removes it. */
  readonly remedy: string;
}

/** A leftover with the action that removes it; absent if only an operator can decide. The action checks again under its locks. */
export interface Found extends Leftover {
  readonly remove?: () => Promise<void>;
}
