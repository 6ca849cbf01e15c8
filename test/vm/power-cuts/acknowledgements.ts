/**
 * The calls that the driver got and acknowledged, according to the marks in the log, and the content that a disk must therefore have. One mark
 * is written before each call, and one after its answer.
 */
import type { Kind } from '../../crash/calls.ts';
import type { PoolFilesystem } from './recording.ts';
import type { DiskState } from './replay.ts';

/** The change that a call makes, as data. It has the names of the calls; sizes are in bytes, and small enough for a number. */
export type Change =
  | {
      readonly kind: 'create';
      readonly volume: string;
      readonly type: Kind;
      readonly sizeBytes: number;
      readonly source?: { readonly kind: 'snapshot' | 'volume'; readonly name: string };
    }
  | { readonly kind: 'expand'; readonly volume: string; readonly sizeBytes: number }
  /** `place` is a file of the volume, or the offset in a raw one. */
  | {
      readonly kind: 'write';
      readonly volume: string;
      readonly place: string;
      readonly text: string;
    }
  | { readonly kind: 'delete'; readonly volume: string }
  | { readonly kind: 'snapshot'; readonly snapshot: string; readonly volume: string }
  | { readonly kind: 'delete-snapshot'; readonly snapshot: string }
  | { readonly kind: 'group'; readonly group: string; readonly members: readonly GroupMember[] }
  | { readonly kind: 'delete-group'; readonly group: string }
  /** Stage, publish, mount and their reverse: their effects do not survive a power cut. */
  | { readonly kind: 'use'; readonly volume: string; readonly call: string };

export interface GroupMember {
  readonly snapshot: string;
  readonly volume: string;
}

/** The file that the recorder writes beside the log. */
export interface Recording {
  readonly poolFilesystem: PoolFilesystem;
  readonly poolBytes: number;
  readonly kernel: string;
  readonly changes: readonly Change[];
}

/** Written once the pool's filesystem exists. Earlier states are not checked. */
export const formattedMark = 'formatted';
export const beginMark = (change: number): string => `begin-${change}`;
export const endMark = (change: number): string => `end-${change}`;

/** A mark of a change, with its index in the log. */
export interface ChangeMark {
  readonly index: number;
  readonly isEnd: boolean;
  readonly change: Change;
}

/** Throws for a mark whose change is not in the recording. */
export function changeMarks(
  entries: readonly { readonly index: number; readonly mark: string | undefined }[],
  changes: readonly Change[],
): readonly ChangeMark[] {
  return entries.flatMap(({ index, mark }) => {
    const [whole, phase, number] = mark?.match(/^(begin|end)-(\d+)$/) ?? [];
    if (whole === undefined) return [];
    const change = changes[Number(number)];
    if (change === undefined) throw new Error(`mark ${whole} names no change of the recording`);
    return [{ index, isEnd: phase === 'end', change }];
  });
}

/** `unknown`: a call that creates or deletes it was made and not acknowledged. If the object exists, it must be intact. */
export type Existence = 'yes' | 'no' | 'unknown';

/** Text whose fsync was acknowledged, by file or offset. */
type Texts = ReadonlyMap<string, string>;

export interface ExpectedVolume {
  readonly exists: Existence;
  readonly type: Kind;
  readonly minBytes: number;
  readonly maxBytes: number;
  readonly texts: Texts;
}

export interface ExpectedSnapshot {
  readonly exists: Existence;
  readonly volume: string;
  readonly type: Kind;
  readonly texts: Texts;
}

export interface ExpectedGroup {
  readonly exists: Existence;
  readonly snapshots: readonly string[];
}

/** The content that a disk must have in one state, by the names in the calls. */
export interface Expected {
  readonly volumes: ReadonlyMap<string, ExpectedVolume>;
  readonly snapshots: ReadonlyMap<string, ExpectedSnapshot>;
  readonly groups: ReadonlyMap<string, ExpectedGroup>;
  /** Names of the objects whose changes were in progress in this state, or were acknowledged in it. */
  readonly touched: ReadonlySet<string>;
}

/**
 * The content that must be on the disk in that state: everything acknowledged before the next flush or FUA write. Changes that
 * began after the state was made are not in it.
 */
export function expectedIn(marks: readonly ChangeMark[], state: DiskState): Expected {
  const facts = new Facts();
  const open = new Set<Change>();
  const touched = new Set<string>();
  for (const { index, isEnd, change } of marks) {
    if (index >= state.until) break;
    if (!isEnd) {
      facts.begin(change, index < state.upTo);
      open.add(change);
      continue;
    }
    facts.end(change);
    open.delete(change);
    if (index > state.upTo) for (const name of namesOf(change)) touched.add(name);
  }
  for (const change of open) for (const name of namesOf(change)) touched.add(name);
  const { volumes, snapshots, groups } = facts;
  return { volumes, snapshots, groups, touched };
}

/** The objects that a change concerns, including the members of a group. */
function namesOf(change: Change): readonly string[] {
  switch (change.kind) {
    case 'create':
      return [change.volume, ...(change.source === undefined ? [] : [change.source.name])];
    case 'snapshot':
      return [change.snapshot, change.volume];
    case 'delete-snapshot':
      return [change.snapshot];
    case 'group':
      return [
        change.group,
        ...change.members.flatMap(({ snapshot, volume }) => [snapshot, volume]),
      ];
    case 'delete-group':
      return [change.group];
    case 'expand':
    case 'write':
    case 'delete':
    case 'use':
      return [change.volume];
  }
}

class Facts {
  readonly volumes = new Map<string, ExpectedVolume>();
  readonly snapshots = new Map<string, ExpectedSnapshot>();
  readonly groups = new Map<string, ExpectedGroup>();

  /** `mayShow`: the disk may already have a part of the change. The content of a copy is known from now on in either case. */
  begin(change: Change, mayShow: boolean): void {
    switch (change.kind) {
      case 'create':
        this.volumes.set(change.volume, {
          exists: mayShow ? 'unknown' : 'no',
          type: change.type,
          minBytes: change.sizeBytes,
          maxBytes: change.sizeBytes,
          texts: this.#textsOf(change.source),
        });
        return;
      case 'expand':
        if (mayShow) this.#changeVolume(change.volume, { maxBytes: change.sizeBytes });
        return;
      case 'write':
        if (mayShow) this.#forgetText(change.volume, change.place);
        return;
      case 'delete':
        if (mayShow) this.#changeVolume(change.volume, { exists: 'unknown' });
        return;
      case 'snapshot':
        this.#beginSnapshot(change, mayShow);
        return;
      case 'delete-snapshot':
        if (mayShow) this.#changeSnapshot(change.snapshot, 'unknown');
        return;
      case 'group':
        for (const member of change.members) this.#beginSnapshot(member, mayShow);
        this.groups.set(change.group, {
          exists: mayShow ? 'unknown' : 'no',
          snapshots: change.members.map(({ snapshot }) => snapshot),
        });
        return;
      case 'delete-group':
        if (mayShow) this.#changeGroup(change.group, 'unknown');
        return;
      case 'use':
    }
  }

  end(change: Change): void {
    switch (change.kind) {
      case 'create':
        this.#changeVolume(change.volume, { exists: 'yes' });
        return;
      case 'expand':
        this.#changeVolume(change.volume, {
          minBytes: change.sizeBytes,
          maxBytes: change.sizeBytes,
        });
        return;
      case 'write':
        this.#setText(change.volume, change.place, change.text);
        return;
      case 'delete':
        this.#changeVolume(change.volume, { exists: 'no' });
        return;
      case 'snapshot':
        this.#changeSnapshot(change.snapshot, 'yes');
        return;
      case 'delete-snapshot':
        this.#changeSnapshot(change.snapshot, 'no');
        return;
      case 'group':
        this.#changeGroup(change.group, 'yes');
        return;
      case 'delete-group':
        this.#changeGroup(change.group, 'no');
        return;
      case 'use':
    }
  }

  #textsOf(source: { kind: 'snapshot' | 'volume'; name: string } | undefined): Texts {
    if (source === undefined) return new Map();
    const { texts } =
      source.kind === 'volume'
        ? required(this.volumes, source.name)
        : required(this.snapshots, source.name);
    return texts;
  }

  #changeVolume(name: string, changed: Partial<ExpectedVolume>): void {
    this.volumes.set(name, { ...required(this.volumes, name), ...changed });
  }

  #setText(name: string, place: string, text: string): void {
    const { texts } = required(this.volumes, name);
    this.#changeVolume(name, { texts: new Map([...texts, [place, text]]) });
  }

  #forgetText(name: string, place: string): void {
    const texts = new Map(required(this.volumes, name).texts);
    texts.delete(place);
    this.#changeVolume(name, { texts });
  }

  #beginSnapshot({ snapshot, volume }: GroupMember, mayShow: boolean): void {
    const { type, texts } = required(this.volumes, volume);
    const exists = mayShow ? 'unknown' : 'no';
    this.snapshots.set(snapshot, { exists, volume, type, texts: new Map(texts) });
  }

  #changeSnapshot(name: string, exists: Existence): void {
    this.snapshots.set(name, { ...required(this.snapshots, name), exists });
  }

  #changeGroup(name: string, exists: Existence): void {
    const group = required(this.groups, name);
    this.groups.set(name, { ...group, exists });
    for (const snapshot of group.snapshots) this.#changeSnapshot(snapshot, exists);
  }
}

function required<T>(all: ReadonlyMap<string, T>, name: string): T {
  const found = all.get(name);
  if (found === undefined) throw new Error(`the recording changes ${name} before it creates it`);
  return found;
}
