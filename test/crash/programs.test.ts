/**
 * Every program that the driver runs is killed at its n-th write, alone or with the driver, or is stopped there and outlives
 * its driver. The repeated call must give the same answer as without a kill, and the data must be intact.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import test from 'ava';
import { execa } from 'execa';
import { commonPrograms, type Program, programs } from '../../src/host/programs/programs.ts';
import { onNode } from '../helpers/on-node.ts';
import { until } from '../helpers/until.ts';
import * as calls from './calls.ts';
import { brokenInvariants, waitUntilIdle } from './invariants.ts';
import { type Operation, operations } from './operations.ts';
import { clearAway, differences, poolPathsOf } from './run-case.ts';
import { TestNode } from './test-node.ts';
import { WrappedPrograms } from './wrapped-programs.ts';

const isSample = process.env['LOOPCSI_CRASH'] === 'sample';
const only = process.env['LOOPCSI_CRASH_ONLY'] ?? '';

interface Row {
  readonly program: Program;
  readonly operation: Operation;
}

function operationOf(name: string, poolFs: Operation['poolFs'] = 'directory'): Operation {
  const found = operations.find((one) => one.name === name && one.poolFs === poolFs);
  if (found === undefined) throw new Error(`there is no operation '${name}' on ${poolFs}`);
  return found;
}

const imageOf = (testNode: TestNode, name: string): string =>
  testNode.pathOf('pool', 'volumes', calls.volumeIdOf(name), 'disk.img');

const debugfs = (image: string, ...requests: readonly string[]) =>
  execa('debugfs', ['-w', '-f', '-', image], { input: requests.join('\n') });

const text = 'synced before the call';

async function idleExt4(testNode: TestNode): Promise<void> {
  await calls.create(testNode, 'v', { kind: 'ext4' });
  await calls.stage(testNode, 'v', 'ext4');
  await calls.writeSynced(await testNode.stagingPathOf('v'), 'file', text);
  await calls.unstage(testNode, 'v');
}

/** Checksum of a damaged image before the driver runs a program on it. */
const sums = new WeakMap<TestNode, string>();

async function sumOf(image: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(image))
    .digest('hex');
}

const ownOperations = {
  checked: {
    name: 'stage ext4 that recorded an error',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await idleExt4(testNode);
      // The superblock records errors and a wrong number of free blocks, which e2fsck repairs without an operator.
      await debugfs(
        imageOf(testNode, 'v'),
        'ssv state 2',
        'ssv free_blocks_count 5',
        'sif file blocks 999',
      );
    },
    call: (testNode) => calls.stage(testNode, 'v', 'ext4'),
    check: async (testNode) => calls.requireText(await testNode.stagingPathOf('v'), 'file', text),
  },
  undone: {
    name: 'stage ext4 that only an operator can repair',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await idleExt4(testNode);
      // e2fsck repairs the first damage and gives up at the second one, so the driver must undo everything that it wrote.
      const damage = ['sif file blocks 999', 'mkdir sub', 'unlink sub', 'ssv state 2'];
      await debugfs(imageOf(testNode, 'v'), ...damage);
      sums.set(testNode, await sumOf(imageOf(testNode, 'v')));
    },
    // The expected answer is the code FAILED_PRECONDITION.
    call: (testNode) =>
      calls.stage(testNode, 'v', 'ext4').then(
        () => status.OK,
        (error: unknown) => {
          const { code } = error as { code?: number };
          if (code !== status.FAILED_PRECONDITION) throw error;
          return code;
        },
      ),
    check: async (testNode) => {
      if ((await sumOf(imageOf(testNode, 'v'))) !== sums.get(testNode)) {
        throw new Error('a damaged image was changed');
      }
    },
  },
  renamed: {
    name: 'restore ext4 whose journal has to be replayed',
    poolFs: 'xfs',
    prepare: async (testNode) => {
      await idleExt4(testNode);
      await calls.snapshot(testNode, 's', 'v');
      const snapshot = calls.snapshotIdOf('s');
      // Older drivers left snapshots of a filesystem in use with a journal to replay.
      await debugfs(
        testNode.pathOf('pool', 'snapshots', snapshot, 'disk.img'),
        'feature needs_recovery',
      );
    },
    call: (testNode) => calls.create(testNode, 'r', { kind: 'ext4', snapshot: 's' }),
    check: async (testNode) => {
      await calls.stage(testNode, 'r', 'ext4');
      await calls.requireText(await testNode.stagingPathOf('r'), 'file', text);
      await calls.unstage(testNode, 'r');
    },
  },
} as const satisfies Readonly<Record<string, Operation>>;

/** A driver reuses the output of its first mkfs.ext4, so only a new one runs that program. */
function onFreshDriver(operation: Operation): Operation {
  return {
    ...operation,
    prepare: async (testNode) => {
      await operation.prepare?.(testNode);
      await testNode.stopAndStart();
    },
  };
}

const rows: readonly Row[] = [
  { program: 'mkfs.ext4', operation: onFreshDriver(operationOf('create ext4')) },
  { program: 'mkfs.xfs', operation: operationOf('create xfs') },
  { program: 'mkfs.btrfs', operation: operationOf('create btrfs') },
  { program: 'e2fsck', operation: ownOperations.checked },
  { program: 'e2fsck', operation: ownOperations.undone },
  { program: 'e2fsck', operation: operationOf('stage ext4 grown while it was idle') },
  { program: 'resize2fs', operation: operationOf('stage ext4 grown while it was idle') },
  { program: 'resize2fs', operation: operationOf('node expands staged ext4') },
  { program: 'resize2fs', operation: operationOf('restore ext4 larger', 'xfs') },
  { program: 'tune2fs', operation: ownOperations.renamed },
  { program: 'xfs_db', operation: operationOf('clone staged xfs', 'xfs') },
  { program: 'btrfstune', operation: operationOf('clone staged btrfs', 'btrfs') },
];

/** The processes that are killed at the write: the program, both, or only the driver, which the stopped program outlives. */
const killTargets = ['the program', 'both', 'the driver'] as const;
type KillTarget = (typeof killTargets)[number];

/** The writes at which to kill: the first two, the middle one and the last one. A sample has two kills only. */
function chooseWrites(
  writes: number,
): readonly { readonly nth: number; readonly killed: KillTarget }[] {
  const spread = [1, 2, Math.ceil(writes / 2), writes].filter((nth) => nth >= 1 && nth <= writes);
  if (isSample) {
    return [
      { nth: Math.ceil(writes / 2), killed: 'both' },
      { nth: Math.min(2, writes), killed: 'the driver' },
    ];
  }
  return [...new Set(spread)].flatMap((nth) => killTargets.map((killed) => ({ nth, killed })));
}

/** Kills the driver while the program is stopped, and checks how the next driver answers while the program still runs. */
async function letProgramOutliveDriver(
  testNode: TestNode,
  wrapped: WrappedPrograms,
  { program, operation }: Row,
) {
  const problems: string[] = [];
  const pid = await wrapped.stopped();
  await testNode.driver.kill();
  await wrapped.disarm();
  await testNode.restart();
  // A program may work on a volume's image, so that the call is refused, or on an abandoned one in tmp/, so that it may succeed.
  const image = await imageOpenBy(pid);
  if (image?.includes('/volumes/') === true) {
    const refused = await callOnce(testNode, operation);
    const names = refused.message.includes(program) && refused.message.includes(String(pid));
    if (refused.code !== status.ABORTED || !names) {
      problems.push(
        `beside ${program} (${pid}) the call answers ${String(refused.code)}: ${refused.message}`,
      );
    }
  } else {
    await callOnce(testNode, operation);
  }
  process.kill(pid, 'SIGCONT');
  await until('the program has ended', () =>
    readFile(`/proc/${pid}/comm`).then(
      () => false,
      () => true,
    ),
  );
  return problems;
}

/** Makes one call without retries. */
async function callOnce(testNode: TestNode, operation: Operation) {
  calls.retryLimit.boundMs = 0;
  try {
    return await operation.call(testNode).then(
      () => ({ code: status.OK, message: '' }),
      (error: unknown) => ({ code: (error as { code?: number }).code, message: String(error) }),
    );
  } finally {
    calls.retryLimit.boundMs = calls.defaultRetryMs;
  }
}

async function imageOpenBy(pid: number): Promise<string | undefined> {
  const { stdout } = await execa('find', [`/proc/${pid}/fd`, '-type', 'l', '-printf', '%l\n']);
  return stdout.split('\n').find((line) => line.includes('disk.img'));
}

async function killAtWrite(
  testNode: TestNode,
  wrapped: WrappedPrograms,
  row: Row,
  at: { nth: number; killed: KillTarget },
) {
  const { program, operation } = row;
  const paths = poolPathsOf(testNode);
  await operation.prepare?.(testNode);
  await waitUntilIdle(paths);
  await testNode.arm('programs');
  const signal = at.killed === 'the program' ? 'KILL' : 'STOP';
  await wrapped.arm({ program, signal, nth: at.nth });
  const problems: string[] = [];
  const answer = callOnce(testNode, operation);
  switch (at.killed) {
    case 'the program':
      await answer;
      await wrapped.disarm();
      break;
    case 'both': {
      const pid = await wrapped.stopped();
      await testNode.driver.kill();
      process.kill(pid, 'SIGKILL');
      await answer;
      await wrapped.disarm();
      await testNode.restart();
      break;
    }
    case 'the driver':
      problems.push(...(await letProgramOutliveDriver(testNode, wrapped, row)));
      await answer;
      break;
  }
  // An image that an outliving program had open stays in tmp/ until the call is repeated.
  if (at.killed !== 'the driver') {
    await waitUntilIdle(paths);
    problems.push(...(await brokenInvariants(paths, 'idle')));
  }
  return problems;
}

let wrapped: WrappedPrograms | undefined;
let directory = '';

async function mountWrappers(): Promise<WrappedPrograms> {
  if (wrapped !== undefined) return wrapped;
  directory = await mkdtemp(join(tmpdir(), 'loopcsi-programs-'));
  wrapped = await WrappedPrograms.mount(directory);
  return wrapped;
}

onNode('every program that the driver runs is killed in some row', (t) => {
  const inRows = new Set(rows.map(({ program }) => program));
  t.deepEqual(
    Object.keys(programs).filter(
      // cp copies into a volume that does not exist yet, and ends with the driver (import-export.test.ts).
      (name) => ![...inRows].includes(name as Program) && !commonPrograms.has(name),
    ),
    [],
  );
});

for (const row of rows) {
  const { program, operation } = row;
  const title = `${program} is killed at its writes: ${operation.name} (${operation.poolFs} pool)`;
  if (!title.includes(only)) continue;
  onNode(title, async (t) => {
    t.timeout(20 * 60_000);
    const wrapping = await mountWrappers();
    let testNode = await TestNode.make(operation);
    try {
      const { answer, writes } = await rehearse(testNode, wrapping, row);
      t.true(writes > 0, `${program} does not run`);
      const failed: string[] = [];
      for (const at of chooseWrites(writes)) {
        const problems = await problemsOf(testNode, wrapping, { row, at, answer });
        if (problems.length === 0) continue;
        failed.push(`${at.killed} at write ${at.nth} of ${writes}: ${problems.join('; ')}`);
        t.log((await testNode.driver.log()).slice(-2_000));
        // A node on which a case failed cannot be used for the next one.
        await testNode.end();
        testNode = await TestNode.make(operation);
      }
      t.deepEqual(failed, []);
      t.log(`${chooseWrites(writes).length} kills, ${writes} writes`);
    } finally {
      await wrapping.disarm();
      const left = await testNode.end();
      if (t.passed) t.deepEqual(left, []);
    }
  });
}

/** Runs the operation without a kill, to find its answer and the number of the program's writes. */
async function rehearse(
  testNode: TestNode,
  wrapping: WrappedPrograms,
  { program, operation }: Row,
) {
  await operation.prepare?.(testNode);
  await wrapping.count(program);
  const answer = await operation.call(testNode);
  const writes = await wrapping.writes();
  await wrapping.disarm();
  await operation.check?.(testNode);
  const left = await clearAway(testNode);
  if (left.length > 0) throw new Error(`without a kill: ${left.join('; ')}`);
  return { answer, writes };
}

/** Kills once and repeats the call, which alone must finish the killed program's work. */
async function problemsOf(
  testNode: TestNode,
  wrapping: WrappedPrograms,
  { row, at, answer }: { row: Row; at: { nth: number; killed: KillTarget }; answer: unknown },
): Promise<readonly string[]> {
  const { operation } = row;
  try {
    const problems = await killAtWrite(testNode, wrapping, row, at);
    const again = await operation.call(testNode);
    problems.push(...differences('repeated call', answer, again));
    await operation.check?.(testNode);
    await waitUntilIdle(poolPathsOf(testNode));
    problems.push(...(await brokenInvariants(poolPathsOf(testNode), 'idle')));
    problems.push(...(await clearAway(testNode)));
    return problems;
  } catch (error) {
    return [String(error)];
  }
}

test.after.always('the wrappers are unmounted', async () => {
  await wrapped?.end();
  if (directory !== '') await rm(directory, { recursive: true });
});
