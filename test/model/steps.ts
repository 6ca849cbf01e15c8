/** The steps of a random run as plain data, so that a shrunk failure can be pasted into a named test. */
import fc from 'fast-check';

export const volumeNames = ['a', 'b', 'c'] as const;
export const snapshotNames = ['s', 't'] as const;
export const targetNames = ['x', 'y'] as const;
export const kinds = ['ext4', 'xfs', 'btrfs', 'block'] as const;

export type VolumeName = (typeof volumeNames)[number];
export type SnapshotName = (typeof snapshotNames)[number];
export type TargetName = (typeof targetNames)[number];
export type Kind = (typeof kinds)[number];
/** Small, medium or large; the number of bytes depends on the kind. */
export type Size = 1 | 2 | 3;

export type CallStep =
  | {
      readonly do: 'create';
      readonly v: VolumeName;
      readonly kind: Kind;
      readonly size: Size;
      readonly from?: SnapshotName | VolumeName;
    }
  | { readonly do: 'delete'; readonly v: VolumeName }
  | { readonly do: 'stage'; readonly v: VolumeName; readonly noatime: boolean }
  | { readonly do: 'unstage'; readonly v: VolumeName }
  | {
      readonly do: 'publish';
      readonly v: VolumeName;
      readonly target: TargetName;
      readonly readOnly: boolean;
    }
  | { readonly do: 'unpublish'; readonly v: VolumeName; readonly target: TargetName }
  | { readonly do: 'expand'; readonly v: VolumeName; readonly size: Size }
  | { readonly do: 'nodeExpand'; readonly v: VolumeName; readonly size: Size }
  | { readonly do: 'snapshot'; readonly s: SnapshotName; readonly v: VolumeName }
  | { readonly do: 'deleteSnapshot'; readonly s: SnapshotName };

/** A failing call of the host: its name, its error, and whether it fails after its effect. */
export interface Failure {
  readonly name: string;
  readonly errno: string;
  readonly after: boolean;
}

/** An action of other software, without the driver's knowledge. A step whose device or mount does not exist does nothing. */
export type OtherSoftwareStep =
  /** Opens the volume's device, or the second, read-only one, and keeps it open. */
  | { readonly do: 'open'; readonly v: VolumeName; readonly readOnly: boolean }
  /** Keeps a file open in the volume that is published at the target. */
  | { readonly do: 'openFile'; readonly target: TargetName }
  /** Keeps the staged filesystem mounted in another mount namespace. */
  | { readonly do: 'mountElsewhere'; readonly v: VolumeName }
  /** `losetup --detach` of the volume's device. */
  | { readonly do: 'clear'; readonly v: VolumeName; readonly readOnly: boolean }
  /** Attaches the volume's image once more. */
  | { readonly do: 'attachAgain'; readonly v: VolumeName }
  /** Attaches an image of other software to the lowest free number. */
  | { readonly do: 'takeNumber' }
  /** Closes and unmounts everything that other software has open and mounted. */
  | { readonly do: 'stopUse' };

export type Step =
  | CallStep
  | OtherSoftwareStep
  /** A host call fails within the call, which is then repeated; with `giveUp`, a failed create is deleted, and the driver restarts. */
  | {
      readonly do: 'failing';
      readonly call: CallStep;
      readonly failure: Failure;
      readonly giveUp: boolean;
    }
  /** The n-th host call within the call, and the `times - 1` after it, fail; then the call is repeated. */
  | {
      readonly do: 'nthFails';
      readonly call: CallStep;
      readonly nth: number;
      readonly errno: string;
      readonly times: number;
    }
  /** A host call hangs within the call, whose caller cancels it. Later the host call returns, and the call is repeated. */
  | { readonly do: 'hanging'; readonly call: CallStep; readonly name: string }
  | { readonly do: 'concurrent'; readonly first: CallStep; readonly second: CallStep }
  /** The driver is killed at the n-th fault point of the call, and a new one starts. */
  | { readonly do: 'killing'; readonly call: CallStep; readonly at: number }
  /**
   * The driver is killed while the first program of the call runs. The program stops, and a new driver starts. Then the program
   * ends, and the call is repeated.
   */
  | { readonly do: 'outliving'; readonly call: CallStep; readonly ends: 'done' | 'killed' }
  | { readonly do: 'restart' }
  /** Another driver of the node, which has the same state directory, starts or ends. */
  | { readonly do: 'secondDriver' }
  /** The node's clock is set forwards or back. */
  | { readonly do: 'setClock'; readonly hours: ClockMove }
  /** The periodic trim runs. */
  | { readonly do: 'trimDueVolumes' };

const clockMoves = [-100_000, -50, -10, 10, 30, 100_000] as const;
export type ClockMove = (typeof clockMoves)[number];

const v = fc.constantFrom(...volumeNames);
const s = fc.constantFrom(...snapshotNames);
const target = fc.constantFrom(...targetNames);
const size = fc.constantFrom<Size>(1, 2, 3);

const callStep: fc.Arbitrary<CallStep> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record(
      {
        do: fc.constant('create' as const),
        v,
        kind: fc.constantFrom<Kind>('ext4', 'ext4', 'xfs', 'btrfs', 'block'),
        size,
        from: fc.oneof(s, v),
      },
      { requiredKeys: ['do', 'v', 'kind', 'size'] },
    ),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('delete' as const), v }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('stage' as const),
      v,
      noatime: fc.nat(7).map((n) => n === 0),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('unstage' as const), v }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('publish' as const),
      v,
      target,
      readOnly: fc.nat(3).map((n) => n === 0),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('unpublish' as const), v, target }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('expand' as const), v, size }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('nodeExpand' as const), v, size }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('snapshot' as const), s, v }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('deleteSnapshot' as const), s }) },
);

/** Not `attachAgain`: the driver mistakes a device of other software with a lower number for the staged one. */
const otherSoftwareStep: fc.Arbitrary<OtherSoftwareStep> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('open' as const),
      v,
      readOnly: fc.nat(3).map((n) => n === 0),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('openFile' as const), target }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('mountElsewhere' as const), v }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('clear' as const),
      v,
      readOnly: fc.nat(3).map((n) => n === 0),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'takeNumber' as const }) },
  { weight: 3, arbitrary: fc.constant({ do: 'stopUse' as const }) },
);

/** Calls of the host that can fail, and errors that they have returned. */
const failures: readonly (readonly [string, readonly string[]])[] = [
  ['filesystems.ext4.make', ['program']],
  ['filesystems.xfs.make', ['program']],
  ['filesystems.ext4.renewUuid', ['program']],
  ['filesystems.ext4.growMounted', ['EIO']],
  ['filesystems.ext4.readSuperblock', ['EIO']],
  ['files.createImage', ['ENOSPC', 'EROFS', 'EIO']],
  ['files.growImage', ['ENOSPC', 'EIO']],
  ['files.imageStatus', ['EIO']],
  ['files.sync', ['EIO', 'ENOSPC']],
  ['files.syncOpenDirectory', ['EIO', 'ENOSPC']],
  ['files.renameNoReplace', ['EROFS', 'EIO', 'ENOSPC']],
  ['files.capacity', ['EIO']],
  ['loops.attach', ['EBUSY', 'ENXIO', 'ENOSPC']],
  ['loops.detach', ['EIO']],
  ['loops.findByImage', ['EIO']],
  ['loops.refreshSize', ['EIO']],
  ['mounts.list', ['EIO']],
  ['mounts.at', ['EIO']],
  ['mounts.mountDevice', ['EIO', 'ENOMEM']],
  ['mounts.bind', ['ENOMEM', 'EIO']],
  ['mounts.unmount', ['EBUSY']],
  ['mounts.makeTarget', ['EROFS', 'ENOSPC']],
  ['mounts.removeTarget', ['EIO']],
  ['copies.reflink', ['ENOSPC', 'EIO']],
  ['copies.copySparse', ['ENOSPC', 'EIO']],
  ['freezer.freeze', ['EBUSY', 'ETIMEDOUT']],
];

/** Those calls that background work does not make. */
const hangs = [
  'filesystems.ext4.make',
  'filesystems.ext4.renewUuid',
  'filesystems.ext4.growMounted',
  'files.createImage',
  'files.growImage',
  'loops.attach',
  'loops.detach',
  'mounts.mountDevice',
  'mounts.bind',
  'mounts.unmount',
  'copies.reflink',
  'freezer.freeze',
] as const;

const failure: fc.Arbitrary<Failure> = fc.constantFrom(...failures).chain(([name, errnos]) =>
  fc.record({
    name: fc.constant(name),
    errno: fc.constantFrom(...errnos),
    // A rename that failed has had no effect, and the freezer undoes a failed freeze.
    after: ['files.renameNoReplace', 'freezer.freeze'].includes(name)
      ? fc.constant(false)
      : fc.boolean(),
  }),
);

/** The life cycle of one volume, or its first part, with actions of other software: random single steps rarely produce it. */
const volumeLife: fc.Arbitrary<readonly Step[]> = fc
  .record({
    v,
    kind: fc.constantFrom<Kind>('ext4', 'block'),
    target,
    readOnly: fc.nat(3).map((n) => n === 0),
    others: fc.array(otherSoftwareStep, { maxLength: 2 }),
    length: fc.integer({ min: 2, max: 6 }),
  })
  .map(({ v, kind, target, readOnly, others, length }) => [
    { do: 'create', v, kind, size: 1 },
    { do: 'stage', v, noatime: false },
    ...(length > 2 ? [{ do: 'publish' as const, v, target, readOnly }] : []),
    ...others.map((step) => ('v' in step ? { ...step, v } : step)),
    ...(length > 3 ? [{ do: 'unpublish' as const, v, target }] : []),
    ...(length > 4 ? [{ do: 'unstage' as const, v }] : []),
    ...(length > 5 ? [{ do: 'stage' as const, v, noatime: false }] : []),
  ]);

/** On a full disk a pod starts even if the node state cannot be written, neither as a new file nor over the old one. */
const losesNodeState = ({ call, errno, times }: Step & { do: 'nthFails' }): boolean =>
  errno === 'ENOSPC' && (call.do === 'stage' || (call.do === 'publish' && times > 1));

const single = (step: fc.Arbitrary<Step>): fc.Arbitrary<readonly Step[]> =>
  step.map((one) => [one]);

/** Random steps, about a third of which have a failure, a kill or other software. */
export const steps: fc.Arbitrary<readonly Step[]> = fc
  .array(
    fc.oneof(
      { weight: 12, arbitrary: single(callStep) },
      { weight: 3, arbitrary: volumeLife },
      {
        weight: 4,
        arbitrary: single(
          fc.record({
            do: fc.constant('failing' as const),
            call: callStep,
            failure,
            giveUp: fc.boolean(),
          }),
        ),
      },
      {
        weight: 3,
        arbitrary: single(
          fc.record({ do: fc.constant('concurrent' as const), first: callStep, second: callStep }),
        ),
      },
      {
        weight: 2,
        arbitrary: single(
          fc.record({
            do: fc.constant('killing' as const),
            call: callStep,
            at: fc.integer({ min: 1, max: 9 }),
          }),
        ),
      },
      {
        weight: 4,
        arbitrary: single(
          fc
            .record({
              do: fc.constant('nthFails' as const),
              call: callStep,
              nth: fc.integer({ min: 1, max: 24 }),
              errno: fc.constantFrom('EIO', 'ENOSPC', 'EMFILE'),
              times: fc.constantFrom(1, 1, 2, 1000),
            })
            .filter((step) => !losesNodeState(step)),
        ),
      },
      {
        weight: 1,
        arbitrary: single(
          fc.record({
            do: fc.constant('outliving' as const),
            call: callStep,
            ends: fc.constantFrom('done' as const, 'killed' as const),
          }),
        ),
      },
      {
        weight: 2,
        arbitrary: single(
          fc.record({
            do: fc.constant('hanging' as const),
            call: callStep,
            name: fc.constantFrom(...hangs),
          }),
        ),
      },
      { weight: 4, arbitrary: single(otherSoftwareStep) },
      { weight: 1, arbitrary: single(fc.constant({ do: 'restart' as const })) },
      {
        weight: 2,
        arbitrary: single(
          fc.record({
            do: fc.constant('setClock' as const),
            hours: fc.constantFrom(...clockMoves),
          }),
        ),
      },
      { weight: 1, arbitrary: single(fc.constant({ do: 'trimDueVolumes' as const })) },
      { weight: 1, arbitrary: single(fc.constant({ do: 'secondDriver' as const })) },
    ),
    { maxLength: 24, size: 'max' },
  )
  .map((groups) => groups.flat());

/**
 * Keeps at most one step that keeps a device open or mounted. On a real node each refused detach waits some seconds, and a start
 * waits for each device.
 */
export function withOneHolder(sequence: readonly Step[]): readonly Step[] {
  const isHolder = (step: Step): boolean =>
    step.do === 'open' || step.do === 'openFile' || step.do === 'mountElsewhere';
  const first = sequence.findIndex(isHolder);
  return sequence.filter((step, index) => index === first || !isHolder(step));
}
