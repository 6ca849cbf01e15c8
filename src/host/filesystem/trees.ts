import { setTimeout as delay } from 'node:timers/promises';
import { CommandError, KernelError } from '../errors.ts';
import { findTreeDifference } from '../files/compare-trees.ts';
import { capacity } from '../files/files.ts';
import { measureTree } from '../files/measure-tree.ts';
import type { TreeCopyOptions, Trees } from '../host.ts';
import { treeCopyTimeoutMs } from '../kernel/time-limits.ts';
import type { Lane } from '../lane.ts';
import type { LongProgramSlots } from '../programs/long-program-slots.ts';
import type { Run } from '../programs/run.ts';
import { type PrivateMountDeps, withPrivateMount } from './private-mount.ts';

interface TreeDeps extends PrivateMountDeps {
  readonly run: Run;
  readonly longProgramSlots: LongProgramSlots;
}

type CopyOptions = Parameters<Trees['copyIntoImage']>[1];

const progressIntervalMs = 500;
/** strerror(ENOSPC) in the C locale, in which all programs run. */
const noSpaceText = 'No space left on device';

/** Measures, copies and compares directory trees. */
export function makeTrees(lane: Lane, deps: TreeDeps): Trees {
  return {
    measure: (path, signal) => measureTree(lane, path, signal),
    copyIntoImage: (imagePath, options) => copyIntoImage(lane, deps, imagePath, options),
    findDifference: (imagePath, options) => findDifference(lane, deps, imagePath, options),
  };
}

/**
 * cp preserves everything that this driver promises, is part of every distribution, and copies ranges in the kernel. It gets
 * SIGKILL when the driver ends: nobody could use an unfinished copy, and a running program would keep the volume's name
 * in use.
 */
async function copyIntoImage(
  lane: Lane,
  deps: TreeDeps,
  imagePath: string,
  options: CopyOptions,
): Promise<void> {
  const copy = (freeSlot: () => void): Promise<void> =>
    withPrivateMount(lane, deps, imagePath, options, async (target) => {
      await runCopy(lane, deps, { ...options, imagePath, target, freeSlot });
      // Errors of delayed allocation are reported here; umount(2) reports none.
      await deps.mounts.syncFilesystem(target);
    });
  await deps.longProgramSlots.take(lane, copy, options.signal);
}

async function runCopy(
  lane: Lane,
  { run }: TreeDeps,
  copy: CopyOptions & {
    readonly imagePath: string;
    readonly target: string;
    readonly freeSlot: () => void;
  },
): Promise<void> {
  const { from, target, imagePath, signal, freeSlot, onProgress } = copy;
  const endProgress = await reportUsage(lane, target, onProgress);
  try {
    const options = ['--archive', '--one-file-system', '--sparse=auto', '--no-target-directory'];
    await run(lane, 'setpriv', ['--pdeathsig', 'KILL', 'cp', ...options, from, target], {
      timeoutMs: treeCopyTimeoutMs,
      image: imagePath,
      signal,
      freeSlot,
    });
  } catch (error) {
    // cp has one exit code for all failures.
    const isFull = error instanceof CommandError && error.stderr.includes(noSpaceText);
    throw isFull ? new KernelError('cp', 'ENOSPC', from, { cause: error }) : error;
  } finally {
    await endProgress();
  }
}

/** Reports periodically how many bytes the filesystem uses more than at the start. */
async function reportUsage(
  lane: Lane,
  target: string,
  onProgress: CopyOptions['onProgress'],
): Promise<() => Promise<void>> {
  const before = await capacity(lane, target);
  const end = new AbortController();
  const report = async (): Promise<void> => {
    for (;;) {
      await delay(progressIntervalMs, undefined, { signal: end.signal });
      const { freeBytes } = await capacity(lane, target);
      onProgress(before.freeBytes > freeBytes ? before.freeBytes - freeBytes : 0n);
    }
  };
  // It ends by the abort, or because the filesystem cannot be queried; then the copy fails too.
  const reporting = report().catch(() => undefined);
  return async () => {
    end.abort();
    await reporting;
  };
}

async function findDifference(
  lane: Lane,
  deps: TreeDeps,
  imagePath: string,
  options: TreeCopyOptions,
): Promise<string | undefined> {
  let difference: string | undefined;
  const readOnly = { ...options, mountOptions: [...options.mountOptions, 'ro'] };
  await withPrivateMount(lane, deps, imagePath, readOnly, async (target) => {
    difference = await findTreeDifference(lane, options.from, target, options.signal);
  });
  return difference;
}
