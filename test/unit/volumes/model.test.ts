import { readdir, readlink, rm } from 'node:fs/promises';
import test from 'ava';
import fc from 'fast-check';
import { MiB } from '../../../src/units.ts';
import { call, volumeInput } from '../../helpers/scratch-node.ts';
import { until } from '../../helpers/until.ts';
import { checkOptions, failureOf } from '../../model/check.ts';
import { runSteps } from '../../model/run.ts';
import { type Step, steps } from '../../model/steps.ts';
import { fakeNode, type Names, subjectOn } from '../../model/subject.ts';

const { parameters, timeoutMs } = checkOptions<[readonly Step[], Names]>({
  runs: 60,
  limitMs: 60_000,
});

/** Runs the sequence on a node in memory. Returns the failure, or undefined. */
async function problemIn(
  sequence: readonly Step[],
  {
    reflink,
    names = 'short',
    growsExt4InUse = true,
  }: { reflink: boolean; names?: Names; growsExt4InUse?: boolean },
): Promise<string | undefined> {
  const node = await fakeNode({ reflink, canGrowExt4Online: growsExt4InUse });
  const subject = await subjectOn(node, names);
  try {
    const problem = await runSteps(subject, sequence, { reflink, growsExt4InUse });
    await subject.close();
    // A simulated kill closes no descriptors. The kernel closes the descriptors of a real process.
    if (
      problem !== undefined ||
      sequence.some((step) => step.do === 'killing' || step.do === 'outliving')
    )
      return problem;
    const open = await staysOpenBelow(node.directory);
    return open.length === 0 ? undefined : `still open: ${open.join(', ')}`;
  } finally {
    await subject.close();
    await node.remove();
  }
}

/** Files below the directory that are still open after the time that closing takes. */
async function staysOpenBelow(directory: string): Promise<readonly string[]> {
  const isClosed = async (): Promise<boolean> => (await openBelow(directory)).length === 0;
  await until('all files are closed', isClosed, 5_000).catch(() => undefined);
  return openBelow(directory);
}

/** Files below the directory that this process has open. */
async function openBelow(directory: string): Promise<readonly string[]> {
  const links = await Promise.all(
    (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
  );
  return links.filter((path) => path.startsWith(`${directory}/`));
}

for (const reflink of [true, false]) {
  test(`random calls, failures and kills behave as in the model (${reflink ? 'shared blocks' : 'copies'})`, async (t) => {
    t.timeout(timeoutMs);
    const problems: string[] = [];
    const result = await fc.check(
      fc.asyncProperty(steps, fc.constantFrom<Names>('short', 'long'), async (sequence, names) => {
        const problem = await problemIn(sequence, { reflink, names });
        problems.push(...(problem === undefined ? [] : [problem]));
        return problem === undefined;
      }),
      parameters,
    );
    // The last failure belongs to the smallest sequence.
    t.false(result.failed, failureOf(result, problems));
    t.true(result.numRuns > 0);
  });
}

/** Shrunk failures of earlier runs, each with its cause, and sequences that random runs produce too rarely. */
const found: readonly {
  readonly name: string;
  readonly names?: Names;
  readonly growsExt4InUse?: boolean;
  readonly steps: readonly Step[];
}[] = [
  {
    name: 'a volume keeps its device after the process that made an unstage fail closes the device',
    steps: [
      { do: 'create', v: 'a', kind: 'block', size: 1 },
      { do: 'create', v: 'b', kind: 'block', size: 1 },
      { do: 'stage', v: 'a', noatime: false },
      { do: 'open', v: 'a', readOnly: false },
      { do: 'unstage', v: 'a' },
      { do: 'stage', v: 'a', noatime: false },
      { do: 'publish', v: 'a', target: 'x', readOnly: false },
      { do: 'stopUse' },
      { do: 'stage', v: 'b', noatime: false },
      { do: 'publish', v: 'b', target: 'y', readOnly: false },
    ],
  },
  {
    name: 'a block volume keeps its second, read-only device after the process that made an unpublish fail closes the device',
    steps: [
      { do: 'create', v: 'a', kind: 'block', size: 1 },
      { do: 'create', v: 'b', kind: 'block', size: 1 },
      { do: 'stage', v: 'a', noatime: false },
      { do: 'publish', v: 'a', target: 'x', readOnly: true },
      { do: 'open', v: 'a', readOnly: true },
      { do: 'unpublish', v: 'a', target: 'x' },
      { do: 'publish', v: 'a', target: 'x', readOnly: true },
      { do: 'stopUse' },
      { do: 'stage', v: 'b', noatime: false },
      { do: 'publish', v: 'b', target: 'y', readOnly: false },
    ],
  },
  {
    name: 'an unneeded second device that other software detached is detached at its last close',
    steps: [
      { do: 'create', v: 'b', kind: 'block', size: 1 },
      { do: 'stage', v: 'b', noatime: false },
      { do: 'publish', v: 'b', target: 'x', readOnly: true },
      { do: 'open', v: 'b', readOnly: true },
      { do: 'unpublish', v: 'b', target: 'x' },
      { do: 'unstage', v: 'b' },
      { do: 'clear', v: 'b', readOnly: true },
      { do: 'stage', v: 'b', noatime: false },
    ],
  },
  {
    name: 'a volume that is staged again keeps its device when its mount in another namespace ends',
    steps: [
      { do: 'create', v: 'a', kind: 'ext4', size: 1 },
      { do: 'stage', v: 'a', noatime: false },
      { do: 'mountElsewhere', v: 'a' },
      { do: 'unstage', v: 'a' },
      { do: 'stage', v: 'a', noatime: false },
      { do: 'stopUse' },
    ],
  },
  {
    name: 'a published block volume whose device other software detached can be unpublished and unstaged',
    steps: [
      { do: 'create', v: 'a', kind: 'block', size: 1 },
      { do: 'stage', v: 'a', noatime: false },
      { do: 'publish', v: 'a', target: 'x', readOnly: false },
      { do: 'clear', v: 'a', readOnly: false },
      { do: 'restart' },
      { do: 'unpublish', v: 'a', target: 'x' },
      { do: 'unstage', v: 'a' },
    ],
  },
  {
    name: 'no other volume appears at the target of a volume whose device was detached',
    steps: [
      { do: 'create', v: 'a', kind: 'block', size: 1 },
      { do: 'create', v: 'b', kind: 'block', size: 1 },
      { do: 'stage', v: 'a', noatime: false },
      { do: 'publish', v: 'a', target: 'x', readOnly: false },
      { do: 'clear', v: 'a', readOnly: false },
      { do: 'restart' },
      { do: 'stage', v: 'b', noatime: false },
      { do: 'publish', v: 'b', target: 'y', readOnly: false },
    ],
  },
  {
    name: 'devices of volumes whose long names differ only in the last letter are distinguished',
    names: 'long',
    steps: [
      { do: 'create', v: 'a', kind: 'ext4', size: 1 },
      { do: 'create', v: 'b', kind: 'ext4', size: 1 },
      { do: 'stage', v: 'a', noatime: false },
      { do: 'unstage', v: 'b' },
      { do: 'unstage', v: 'c' },
      { do: 'unpublish', v: 'b', target: 'x' },
      { do: 'delete', v: 'b' },
    ],
  },
  {
    name: 'the second device of a block volume is detached with its last read-only target',
    steps: [
      { do: 'create', v: 'a', kind: 'block', size: 1 },
      { do: 'stage', v: 'a', noatime: false },
      { do: 'publish', v: 'a', target: 'x', readOnly: true },
      { do: 'publish', v: 'a', target: 'y', readOnly: true },
      { do: 'unpublish', v: 'a', target: 'x' },
      { do: 'unpublish', v: 'a', target: 'y' },
    ],
  },
  {
    name: 'a clock that was set back delays no trim, and changes no time in a record',
    steps: [
      { do: 'create', v: 'a', kind: 'ext4', size: 1 },
      { do: 'stage', v: 'a', noatime: false },
      { do: 'trimDueVolumes' },
      { do: 'setClock', hours: -50 },
      { do: 'snapshot', s: 's', v: 'a' },
      { do: 'restart' },
      { do: 'trimDueVolumes' },
      { do: 'expand', v: 'a', size: 2 },
      { do: 'setClock', hours: 10 },
      { do: 'trimDueVolumes' },
      { do: 'setClock', hours: 30 },
      { do: 'nodeExpand', v: 'a', size: 2 },
      { do: 'trimDueVolumes' },
    ],
  },
  {
    name: 'a filesystem that a killed driver had frozen for a snapshot is thawed',
    steps: [
      { do: 'create', v: 'a', kind: 'ext4', size: 1 },
      { do: 'stage', v: 'a', noatime: false },
      { do: 'publish', v: 'a', target: 'x', readOnly: false },
      { do: 'killing', call: { do: 'snapshot', s: 's', v: 'a' }, at: 2 },
      { do: 'unpublish', v: 'a', target: 'x' },
    ],
  },
  {
    name: 'a create waits for the mkfs, and a copy for the tune2fs, of an earlier driver process',
    steps: [
      { do: 'create', v: 'b', kind: 'xfs', size: 1 },
      { do: 'stage', v: 'b', noatime: false },
      { do: 'outliving', call: { do: 'create', v: 'a', kind: 'ext4', size: 1 }, ends: 'killed' },
      { do: 'snapshot', s: 's', v: 'a' },
      {
        do: 'outliving',
        call: { do: 'create', v: 'c', kind: 'ext4', size: 2, from: 's' },
        ends: 'done',
      },
      { do: 'stage', v: 'c', noatime: false },
    ],
  },
  ...(['done', 'killed'] as const).map((ends) => ({
    name: `a driver waits for a resize2fs of an earlier process, and undoes it if it was killed (${ends})`,
    growsExt4InUse: false,
    steps: [
      { do: 'create', v: 'b', kind: 'block', size: 1 },
      { do: 'stage', v: 'b', noatime: false },
      { do: 'create', v: 'a', kind: 'ext4', size: 1 },
      { do: 'expand', v: 'a', size: 2 },
      { do: 'outliving', call: { do: 'stage', v: 'a', noatime: false }, ends },
      { do: 'publish', v: 'a', target: 'x', readOnly: false },
    ] satisfies readonly Step[],
  })),
  {
    name: 'one of two concurrent publishes of different volumes at the same target succeeds',
    steps: [
      { do: 'create', v: 'b', kind: 'block', size: 1 },
      { do: 'stage', v: 'b', noatime: false },
      { do: 'create', v: 'c', kind: 'block', size: 1 },
      { do: 'stage', v: 'c', noatime: false },
      {
        do: 'concurrent',
        first: { do: 'publish', v: 'c', target: 'y', readOnly: true },
        second: { do: 'publish', v: 'b', target: 'y', readOnly: true },
      },
    ],
  },
  {
    name: "drivers that share a state directory start and stop without forgetting each other's pools",
    steps: [
      { do: 'create', v: 'a', kind: 'ext4', size: 1 },
      { do: 'stage', v: 'a', noatime: false },
      { do: 'secondDriver' },
      { do: 'restart' },
      { do: 'secondDriver' },
      { do: 'restart' },
      { do: 'secondDriver' },
      { do: 'secondDriver' },
      { do: 'restart' },
    ],
  },
  {
    name: 'a call that hangs in the kernel for one volume delays no other volume, and is repeated after it has returned',
    steps: [
      { do: 'create', v: 'b', kind: 'xfs', size: 1 },
      { do: 'stage', v: 'b', noatime: false },
      {
        do: 'hanging',
        call: { do: 'create', v: 'a', kind: 'ext4', size: 1 },
        name: 'filesystems.ext4.make',
      },
      { do: 'hanging', call: { do: 'stage', v: 'a', noatime: false }, name: 'loops.attach' },
      {
        do: 'hanging',
        call: { do: 'publish', v: 'a', target: 'x', readOnly: false },
        name: 'mounts.bind',
      },
      { do: 'hanging', call: { do: 'snapshot', s: 's', v: 'a' }, name: 'freezer.freeze' },
      { do: 'hanging', call: { do: 'unpublish', v: 'a', target: 'x' }, name: 'mounts.unmount' },
      { do: 'hanging', call: { do: 'unstage', v: 'a' }, name: 'loops.detach' },
    ],
  },
  {
    name: 'a copy has the kind of its source',
    steps: [
      { do: 'create', v: 'a', kind: 'block', size: 3 },
      { do: 'snapshot', s: 's', v: 'a' },
      { do: 'create', v: 'b', kind: 'ext4', size: 3, from: 's' },
      { do: 'create', v: 'b', kind: 'ext4', size: 3, from: 'a' },
      { do: 'create', v: 'b', kind: 'block', size: 3, from: 's' },
    ],
  },
  {
    name: 'a volume in use is captured if blocks can be shared, otherwise only on request',
    steps: [
      { do: 'create', v: 'a', kind: 'ext4', size: 1 },
      { do: 'stage', v: 'a', noatime: false },
      { do: 'snapshot', s: 's', v: 'a' },
      { do: 'create', v: 'b', kind: 'ext4', size: 1, from: 'a' },
    ],
  },
  {
    name: 'unpublishing an unknown volume leaves another volume’s mount at that target',
    steps: [
      { do: 'create', v: 'c', kind: 'ext4', size: 1 },
      { do: 'stage', v: 'c', noatime: true },
      { do: 'publish', v: 'c', target: 'y', readOnly: true },
      { do: 'unpublish', v: 'a', target: 'y' },
    ],
  },
  {
    name: 'a repeated delete completes one whose fsync failed',
    steps: [
      { do: 'create', v: 'a', kind: 'ext4', size: 1 },
      {
        do: 'failing',
        call: { do: 'delete', v: 'a' },
        failure: { name: 'files.syncOpenDirectory', errno: 'EIO', after: false },
        giveUp: false,
      },
      { do: 'create', v: 'a', kind: 'block', size: 1 },
    ],
  },
  {
    name: 'a delete that cannot examine the image does not delete a volume in use',
    steps: [
      { do: 'create', v: 'b', kind: 'block', size: 1 },
      { do: 'stage', v: 'b', noatime: true },
      {
        do: 'failing',
        call: { do: 'delete', v: 'b' },
        failure: { name: 'files.imageStatus', errno: 'EIO', after: false },
        giveUp: false,
      },
    ],
  },
  {
    name: 'a node state that temporarily cannot be read is not forgotten',
    steps: [
      { do: 'create', v: 'b', kind: 'ext4', size: 1 },
      { do: 'stage', v: 'b', noatime: false },
      { do: 'restart' },
      {
        do: 'nthFails',
        call: { do: 'stage', v: 'b', noatime: true },
        nth: 5,
        errno: 'EIO',
        times: 1,
      },
    ],
  },
  {
    name: 'a failure to list the devices has a reason',
    steps: [
      { do: 'create', v: 'a', kind: 'ext4', size: 1 },
      {
        do: 'failing',
        call: { do: 'delete', v: 'a' },
        failure: { name: 'loops.findByImage', errno: 'EIO', after: false },
        giveUp: false,
      },
    ],
  },
];

for (const { name, steps: sequence, ...options } of found) {
  for (const reflink of [true, false]) {
    test(`${name} (${reflink ? 'shared blocks' : 'copies'})`, async (t) => {
      t.is(await problemIn(sequence, { reflink, ...options }), undefined);
    });
  }
}

test('a delete of a volume that was removed manually succeeds', async (t) => {
  const node = await fakeNode({ reflink: true });
  const subject = await subjectOn(node);
  try {
    const { volumes, domain } = subject.opened();
    const { record } = await volumes.createVolume(call(), volumeInput('a', { sizeBytes: MiB }));
    const [pool] = domain.pools.all;
    await rm(pool?.pathOf('volumes', record.id) ?? '', { recursive: true });
    await volumes.deleteVolume(call(), record.id);
    await t.throwsAsync(volumes.getVolume(record.id), { message: /does not exist/ });
  } finally {
    await subject.close();
    await node.remove();
  }
});
