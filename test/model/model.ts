/** The small model: what volumes there are, and what each call must answer. No disk, no kernel, no order of steps. */
import type { Reason } from '../../src/errors.ts';
import { MiB } from '../../src/units.ts';
import type { CallStep, Kind, Size, SnapshotName, TargetName, VolumeName } from './steps.ts';

export interface ModelOptions {
  /** The pool shares blocks, so that what is staged can be cut without being asked to stand still for long. */
  readonly reflink: boolean;
  /** ext4 grows while it is published. */
  readonly growsExt4InUse: boolean;
}

interface Volume {
  readonly kind: Kind;
  /** What it was made from. */
  readonly from: string | undefined;
  size: bigint;
  /** Of its filesystem, which follows the size at the next stage or expansion on the node. */
  fsSize: bigint;
  staged: { readonly noatime: boolean } | undefined;
  readonly targets: Map<TargetName, { readonly readOnly: boolean }>;
}

export interface State {
  readonly volumes: Map<VolumeName, Volume>;
  readonly snapshots: Map<
    SnapshotName,
    { readonly of: VolumeName; readonly kind: Kind; readonly size: bigint }
  >;
}

export function emptyState(): State {
  return { volumes: new Map(), snapshots: new Map() };
}

export function copyOf({ volumes, snapshots }: State): State {
  return {
    volumes: new Map(
      [...volumes].map(([name, volume]) => [name, { ...volume, targets: new Map(volume.targets) }]),
    ),
    snapshots: new Map(snapshots),
  };
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

/** What the call answers in that state. `state` is changed when it is a success, or fails having done something. */
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
  if (from !== undefined) {
    const source = isVolume(from) ? state.volumes.get(from) : state.snapshots.get(from);
    if (source === undefined) return 'not-found';
    const isBusy = 'staged' in source && source.staged !== undefined;
    if (isBusy && !reflink) return 'wrong-state';
    if (source.kind !== kind) return 'invalid';
    if (asked < source.size) return 'out-of-range';
    size = asked;
  }
  state.volumes.set(v, { kind, from, size, fsSize: size, staged: undefined, targets: new Map() });
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
  if (volume.staged !== undefined) return volume.staged.noatime === noatime ? 'ok' : 'conflict';
  volume.staged = { noatime };
  volume.fsSize = volume.size;
  return 'ok';
}

function unstage(state: State, v: VolumeName): Answer {
  const volume = state.volumes.get(v);
  if (volume === undefined) return 'ok';
  if (volume.targets.size > 0) return 'wrong-state';
  volume.staged = undefined;
  return 'ok';
}

function holderOf(state: State, target: TargetName): VolumeName | undefined {
  return [...state.volumes].find(([, { targets }]) => targets.has(target))?.[0];
}

function publish(state: State, step: CallStep & { do: 'publish' }): Answer {
  const { v, target, readOnly } = step;
  const volume = state.volumes.get(v);
  if (volume === undefined) return 'not-found';
  if (volume.staged === undefined) return 'wrong-state';
  const holder = holderOf(state, target);
  if (holder !== undefined && holder !== v) return 'wrong-state';
  const there = volume.targets.get(target);
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
  state.snapshots.set(s, { of: v, kind: volume.kind, size: volume.size });
  return 'ok';
}
