/** A model of the driver: the volumes, and the answer of each call. It has no disk, no kernel and no intermediate states. */
import type { Reason } from '../../src/errors.ts';
import { MiB } from '../../src/units.ts';
import type { CallStep, Kind, Size, SnapshotName, TargetName, VolumeName } from './steps.ts';

export interface ModelOptions {
  /** The pool shares blocks, so that a staged volume can be copied with a short freeze. */
  readonly reflink: boolean;
  /** ext4 can grow while it is published. */
  readonly growsExt4InUse: boolean;
}

export interface Volume {
  readonly kind: Kind;
  /** Its source: a volume or a snapshot. */
  readonly from: string | undefined;
  readonly madeAtMs: number;
  /** Time of the last periodic trim; undefined before the first one. */
  trimmedAtMs: number | undefined;
  /** The mark in its content: its own after the first stage, before that the mark of its source. */
  mark: string;
  size: bigint;
  /** Size of its filesystem, which grows to `size` at the next stage or expansion on the node. */
  fsSize: bigint;
  staged: { readonly noatime: boolean; isLost?: boolean } | undefined;
  readonly targets: Map<TargetName, { readonly readOnly: boolean; isLost?: boolean }>;
  /** Effects of other software. */
  readonly otherSoftware: {
    /** A device of the volume is open, or its filesystem is mounted elsewhere, so it cannot be detached. */
    isInUse: boolean;
    /** Maximum number of attached devices that its use does not need. */
    spareDevices: number;
    /** Other software detached its read-write (false) or read-only (true) device, which may be detached at its last close. */
    readonly cleared: Set<boolean>;
    /** How it was staged before an unstage that unmounted it but could not detach its device. */
    unfinished?: { readonly noatime: boolean } | undefined;
  };
}

export interface State {
  readonly volumes: Map<VolumeName, Volume>;
  readonly snapshots: Map<
    SnapshotName,
    {
      readonly of: VolumeName;
      readonly kind: Kind;
      readonly size: bigint;
      readonly mark: string;
      readonly madeAtMs: number;
    }
  >;
  /** The node's clock, which moves only when a step says so. */
  nowMs: number;
  /** Targets in which other software has a file open. */
  readonly openTargets: Set<TargetName>;
}

/** The time at the start of a run. */
export const startMs = Date.UTC(2030, 0, 1);

export function emptyState(): State {
  return { volumes: new Map(), snapshots: new Map(), nowMs: startMs, openTargets: new Set() };
}

export const copyOf = (state: State): State => structuredClone(state);

/** Replaces the contents of `state` by those of `by`. */
export function replaceState(state: State, by: State): void {
  state.volumes.clear();
  state.snapshots.clear();
  state.openTargets.clear();
  for (const [name, volume] of by.volumes) state.volumes.set(name, volume);
  for (const [name, one] of by.snapshots) state.snapshots.set(name, one);
  for (const target of by.openTargets) state.openTargets.add(target);
  state.nowMs = by.nowMs;
}

const unit: Readonly<Record<Kind, bigint>> = {
  ext4: 16n * MiB,
  xfs: 320n * MiB,
  btrfs: 256n * MiB,
  block: 4n * MiB,
};

export function bytesOf(kind: Kind, size: Size): bigint {
  return unit[kind] * BigInt(size);
}

export type Answer = 'ok' | Reason;

const isVolume = (name: string): name is VolumeName => ['a', 'b', 'c'].includes(name);

/** The answer of the call in that state. Changes `state` as the call does. */
export function apply(state: State, step: CallStep, options: ModelOptions): Answer {
  switch (step.do) {
    case 'create':
      return create(state, step, options);
    case 'delete':
      return remove(state, step.v);
    case 'stage':
      return stage(state, step);
    case 'unstage':
      return unstage(state, step.v);
    case 'publish':
      return publish(state, step);
    case 'unpublish':
      return unpublish(state, step);
    case 'expand':
      return expand(state, step);
    case 'nodeExpand':
      return nodeExpand(state, step, options);
    case 'snapshot':
      return snapshot(state, step, options);
    case 'deleteSnapshot':
      state.snapshots.delete(step.s);
      return 'ok';
  }
}

function create(
  state: State,
  step: CallStep & { do: 'create' },
  { reflink }: ModelOptions,
): Answer {
  const { v, kind, from } = step;
  const asked = bytesOf(kind, step.size);
  const existing = state.volumes.get(v);
  if (existing !== undefined) {
    const isSame = existing.kind === kind && existing.from === from && existing.size >= asked;
    return isSame ? 'ok' : 'conflict';
  }
  let size = asked;
  let mark = '';
  if (from !== undefined) {
    const source = isVolume(from) ? state.volumes.get(from) : state.snapshots.get(from);
    if (source === undefined) return 'not-found';
    const isBusy = 'staged' in source && source.staged !== undefined;
    if (isBusy && !reflink) return 'wrong-state';
    // A block volume can be made of anything, but the sizes here are too small for a filesystem, so that none ever contains one.
    if (kind !== 'block' && source.kind !== kind) return 'invalid';
    if (asked < source.size) return 'out-of-range';
    size = asked;
    mark = source.mark;
  }
  const otherSoftware = { isInUse: false, spareDevices: 0, cleared: new Set<boolean>() };
  const unused = { staged: undefined, targets: new Map(), trimmedAtMs: undefined, otherSoftware };
  const madeAtMs = state.nowMs;
  state.volumes.set(v, { kind, from, madeAtMs, mark, size, fsSize: size, ...unused });
  return 'ok';
}

function remove(state: State, v: VolumeName): Answer {
  if (state.volumes.get(v)?.staged !== undefined) return 'wrong-state';
  state.volumes.delete(v);
  return 'ok';
}

function stage(state: State, { v, noatime }: CallStep & { do: 'stage' }): Answer {
  const volume = state.volumes.get(v);
  if (volume === undefined) return 'not-found';
  const { staged } = volume;
  if (staged !== undefined && staged.isLost !== true) {
    return staged.noatime === noatime ? 'ok' : 'conflict';
  }
  volume.staged = { noatime };
  volume.fsSize = volume.size;
  volume.otherSoftware.cleared.delete(false);
  volume.otherSoftware.unfinished = undefined;
  return 'ok';
}

function unstage(state: State, v: VolumeName): Answer {
  const volume = state.volumes.get(v);
  if (volume === undefined) return 'ok';
  if (volume.targets.size > 0) return 'wrong-state';
  volume.staged = undefined;
  volume.otherSoftware.spareDevices = 0;
  volume.otherSoftware.cleared.clear();
  volume.otherSoftware.unfinished = undefined;
  return 'ok';
}

function holderOf(state: State, target: TargetName): VolumeName | undefined {
  return [...state.volumes].find(([, { targets }]) => targets.has(target))?.[0];
}

function publish(state: State, step: CallStep & { do: 'publish' }): Answer {
  const { v, target, readOnly } = step;
  const volume = state.volumes.get(v);
  if (volume === undefined) return 'not-found';
  if (volume.staged === undefined || volume.staged.isLost === true) return 'wrong-state';
  const holder = holderOf(state, target);
  if (holder !== undefined && holder !== v) return 'wrong-state';
  const there = volume.targets.get(target);
  if (there?.isLost === true) return 'wrong-state';
  if (there !== undefined) return there.readOnly === readOnly ? 'ok' : 'conflict';
  volume.targets.set(target, { readOnly });
  return 'ok';
}

function unpublish(state: State, { v, target }: CallStep & { do: 'unpublish' }): Answer {
  const holder = holderOf(state, target);
  if (holder !== undefined && holder !== v) return 'wrong-state';
  state.volumes.get(v)?.targets.delete(target);
  return 'ok';
}

function expand(state: State, { v, size }: CallStep & { do: 'expand' }): Answer {
  const volume = state.volumes.get(v);
  if (volume === undefined) return 'not-found';
  const asked = bytesOf(volume.kind, size);
  if (asked > volume.size) volume.size = asked;
  return 'ok';
}

function nodeExpand(
  state: State,
  step: CallStep & { do: 'nodeExpand' },
  { growsExt4InUse }: ModelOptions,
): Answer {
  const volume = state.volumes.get(step.v);
  if (volume?.staged === undefined) return 'not-found';
  expand(state, { ...step, do: 'expand' });
  if (volume.fsSize === volume.size) return 'ok';
  if (volume.kind === 'ext4' && !growsExt4InUse && volume.targets.size > 0) return 'wrong-state';
  volume.fsSize = volume.size;
  return 'ok';
}

function snapshot(
  state: State,
  { s, v }: CallStep & { do: 'snapshot' },
  { reflink }: ModelOptions,
): Answer {
  const existing = state.snapshots.get(s);
  if (existing !== undefined) return existing.of === v ? 'ok' : 'conflict';
  const volume = state.volumes.get(v);
  if (volume === undefined) return 'not-found';
  if (volume.staged !== undefined && !reflink) return 'wrong-state';
  const { kind, size, mark } = volume;
  state.snapshots.set(s, { of: v, kind, size, mark, madeAtMs: state.nowMs });
  return 'ok';
}

const hourMs = 3_600_000;

/** Moves the clock. A step moves it by amounts for which the spread of trims over an hour does not affect whether a trim is due. */
export function moveClock(state: State, hours: number): void {
  state.nowMs += hours * hourMs;
}

/** Trims each mounted volume a day after its last trim or its creation, or at once if that time is in the future. */
export function trimDueVolumes(state: State): void {
  for (const volume of state.volumes.values()) {
    if (volume.staged === undefined || volume.kind === 'block') continue;
    const sinceMs = state.nowMs - (volume.trimmedAtMs ?? volume.madeAtMs);
    if (sinceMs < 0 || sinceMs >= 24 * hourMs) volume.trimmedAtMs = state.nowMs;
  }
}

/** Other correct answers while other software uses the same devices and mounts, and the state after such an answer. */
export interface Refusal {
  readonly answers: readonly Answer[];
  readonly after: (state: State, answer: Answer) => void;
}

const changesNothing = (): void => undefined;

/** How the call may be refused because of other software; undefined if it may not be refused. */
export function refusalOf(state: State, step: CallStep): Refusal | undefined {
  if (step.do === 'unpublish') return unpublishRefusal(state, step);
  if (step.do === 'deleteSnapshot') return undefined;
  if (step.do === 'create') {
    const source =
      step.from !== undefined && isVolume(step.from) ? state.volumes.get(step.from) : undefined;
    return source !== undefined && hasSpare(source) ? usedByOthers : undefined;
  }
  const volume = state.volumes.get(step.v);
  if (volume === undefined) return undefined;
  const { isInUse } = volume.otherSoftware;
  const { staged } = volume;
  switch (step.do) {
    case 'unstage':
      if (hasOnlyLostTargets(volume)) return leavesLostTargets(step.v);
      if (!isInUse || volume.targets.size > 0) return undefined;
      return { answers: ['busy'], after: (after) => leaveSpare(after, step.v) };
    case 'delete':
      return isInUse && hasSpare(volume) ? usedByOthers : undefined;
    case 'snapshot':
      return hasSpare(volume) ? usedByOthers : undefined;
    case 'stage':
      if (staged?.isLost === true) {
        return { answers: ['wrong-state', 'unavailable'], after: changesNothing };
      }
      // A filesystem that must grow before the stage cannot grow while another device is attached.
      return hasSpare(volume) && volume.fsSize < volume.size ? usedByOthers : undefined;
    case 'nodeExpand':
      return volume.otherSoftware.unfinished === undefined ? undefined : stagesAgain(step);
    case 'publish':
    case 'expand':
      return undefined;
  }
}

const usedByOthers: Refusal = { answers: ['busy', 'wrong-state'], after: changesNothing };

const hasOnlyLostTargets = ({ targets }: Volume): boolean =>
  targets.size > 0 && [...targets.values()].every(({ isLost }) => isLost === true);

/** A bound device node without a device does not use the volume, so it may be unstaged before it is unpublished. */
function leavesLostTargets(v: VolumeName): Refusal {
  return {
    answers: ['ok'],
    after: (state) => {
      const volume = state.volumes.get(v);
      if (volume === undefined) return;
      volume.staged = undefined;
      volume.otherSoftware.spareDevices = 0;
    },
  };
}

/** Whether a call uses a volume whose device was detached. The model covers only the end of that volume's use. */
export function usesLostDevice(state: State, step: CallStep): boolean {
  const isLost = (name: string | undefined): boolean => {
    const volume = name !== undefined && isVolume(name) ? state.volumes.get(name) : undefined;
    if (volume === undefined) return false;
    return volume.staged?.isLost === true || [...volume.targets.values()].some((one) => one.isLost);
  };
  switch (step.do) {
    case 'create':
      return isLost(step.v) || isLost(step.from);
    case 'delete':
    case 'snapshot':
    case 'expand':
    case 'nodeExpand':
      return isLost(step.v);
    case 'stage':
    case 'unstage':
    case 'publish':
    case 'unpublish':
    case 'deleteSnapshot':
      return false;
  }
}

/** Whether other software is active. The model does not cover two calls at once in that case. */
export function hasOtherSoftware({ volumes, openTargets }: State): boolean {
  if (openTargets.size > 0) return true;
  return [...volumes.values()].some(
    ({ otherSoftware }) =>
      otherSoftware.isInUse || otherSoftware.cleared.size > 0 || otherSoftware.spareDevices > 0,
  );
}

const hasSpare = ({ otherSoftware }: Volume): boolean => otherSoftware.spareDevices > 0;

/** The volume is unmounted, but its device is not detached. */
function leaveSpare(state: State, v: VolumeName): void {
  const volume = state.volumes.get(v);
  if (volume?.staged === undefined) return;
  volume.otherSoftware.spareDevices += 1;
  volume.otherSoftware.unfinished = volume.staged;
  volume.staged = undefined;
}

/** An interrupted unstage leaves the same state as an interrupted growth, so this call stages the volume again. */
function stagesAgain(step: CallStep & { do: 'nodeExpand' }): Refusal {
  return {
    answers: ['ok', 'busy', 'wrong-state'],
    after: (state, answer) => {
      const volume = state.volumes.get(step.v);
      if (answer !== 'ok' || volume?.otherSoftware.unfinished === undefined) return;
      const { noatime } = volume.otherSoftware.unfinished;
      expand(state, { ...step, do: 'expand' });
      stage(state, { do: 'stage', v: step.v, noatime });
    },
  };
}

function unpublishRefusal(
  state: State,
  { v, target }: CallStep & { do: 'unpublish' },
): Refusal | undefined {
  const volume = state.volumes.get(v);
  const there = volume?.targets.get(target);
  if (state.openTargets.has(target) && there !== undefined) {
    return usedByOthers;
  }
  if (volume?.kind !== 'block' || !volume.otherSoftware.isInUse) return undefined;
  // The read-only device stays attached after the last unpublish.
  return {
    answers: ['busy'],
    after: (after) => {
      const changed = after.volumes.get(v);
      if (changed === undefined) return;
      if (changed.targets.delete(target)) changed.otherSoftware.spareDevices += 1;
    },
  };
}
