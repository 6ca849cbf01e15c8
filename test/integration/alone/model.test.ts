/**
 * Random calls on real devices are compared with a model. Alone: other processes detach its devices, and its next steps expect that
 * nobody else attaches an image to their numbers.
 */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { KernelError } from '../../../src/host/errors.ts';
import type { Host } from '../../../src/host/host.ts';
import { makeRealHost } from '../../../src/host/real-host.ts';
import { changedHost } from '../../helpers/changed-host.ts';
import { onNode } from '../../helpers/on-node.ts';
import { realOtherSoftware } from '../../helpers/other-software.ts';
import { makePoolFs, type PoolFs, removeAll } from '../../helpers/scratch-pool.ts';
import { Watch } from '../../helpers/watch-calls.ts';
import { checkOptions, failureOf } from '../../model/check.ts';
import { realMarks } from '../../model/marks.ts';
import { runSteps } from '../../model/run.ts';
import { type Step, steps, withOneHolder } from '../../model/steps.ts';
import { errorOf, type Node, subjectOn } from '../../model/subject.ts';

const { parameters, timeoutMs } = checkOptions<[readonly Step[]]>({ runs: 12, limitMs: 120_000 });

/** The real host, with calls that can be made to fail. */
function watched(real: Host, watch: Watch): Host {
  return changedHost(real, (host) => watchedParts(host, watch));
}

function watchedParts(host: Host, watch: Watch): Partial<Host> {
  const { ext4, xfs, btrfs } = host.filesystems;
  return {
    files: watch.over('files', host.files),
    loops: watch.over('loops', host.loops),
    mounts: watch.over('mounts', host.mounts),
    extents: watch.over('extents', host.extents),
    copies: watch.over('copies', host.copies),
    freezer: watch.over('freezer', host.freezer),
    filesystems: {
      ext4: watch.over('filesystems.ext4', ext4),
      xfs: watch.over('filesystems.xfs', xfs),
      btrfs: watch.over('filesystems.btrfs', btrfs),
    },
  };
}

/** The first difference from the model in that sequence on real devices and mounts; undefined if there is none. */
async function problemIn(sequence: readonly Step[], poolFs: PoolFs): Promise<string | undefined> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-model-'));
  await makePoolFs(directory, { poolFs });
  const watch = new Watch();
  const real = makeRealHost();
  const node: Node = {
    directory,
    host: watched(real, watch),
    otherSoftware: realOtherSoftware,
    marks: realMarks,
    // No call reports this; a mark could not be written there.
    frozen: () => [],
    failNext: (failure) => {
      watch.failNext(failure.name, errorOf(failure), { after: failure.after });
    },
    failNth: (nth, errno, times) => {
      watch.failNth(nth, (name) => new KernelError(name, errno, 'a test'), { times });
    },
    // The crash matrix tests this with real programs.
    outliveNext: undefined,
    hangNext: (name, met) => watch.hangNext(name, met),
    clearFailures: () => {
      watch.clearFailures();
    },
  };
  const subject = await subjectOn(node);
  let problem: string | undefined;
  let left: readonly string[] = [];
  try {
    problem = await runSteps(subject, sequence, {
      reflink: poolFs === 'xfs' || poolFs === 'btrfs',
      growsExt4InUse: real.facts.canGrowExt4Online,
    });
  } finally {
    await subject.close();
    left = await removeAll(directory);
  }
  return problem ?? (left.length === 0 ? undefined : `left over: ${left.join(', ')}`);
}

for (const poolFs of ['directory', 'xfs'] as const) {
  onNode(
    `random calls, failures and kills on real devices behave as in the model (${poolFs} pool)`,
    async (t) => {
      t.timeout(timeoutMs);
      const problems: string[] = [];
      const result = await fc.check(
        fc.asyncProperty(steps.map(withOneHolder), async (sequence) => {
          const problem = await problemIn(sequence, poolFs);
          problems.push(...(problem === undefined ? [] : [problem]));
          return problem === undefined;
        }),
        parameters,
      );
      t.false(result.failed, failureOf(result, problems));
      t.true(result.numRuns > 0);
    },
  );
}
