import { makeCopies } from './files/copy.ts';
import { makeExtents } from './files/extents.ts';
import { makeFiles } from './files/files.ts';
import { makeFilesystems } from './filesystem/index.ts';
import { makeFreezer } from './freeze/freezer.ts';
import type { Host } from './host.ts';
import { readFacts, readSupportedFilesystems } from './kernel/node-facts.ts';
import { makeLoopDevices } from './loop/devices.ts';
import { makeMounts } from './mount/mounts.ts';
import { makeMountUsers } from './mount/users.ts';
import { makeProgramCheck } from './programs/programs.ts';
import { type EndedCommand, makeRun } from './programs/run.ts';
import { findRunningPrograms } from './programs/running-programs.ts';

/**
 * The node itself: kernel calls and programs. `onCommand` is called for every program that ended, for log and metrics.
 */
export function makeRealHost(options: { onCommand?: (command: EndedCommand) => void } = {}): Host {
  const loops = makeLoopDevices();
  const mounts = makeMounts();
  const freezer = makeFreezer(mounts);
  const facts = readFacts();
  const run = makeRun(options.onCommand === undefined ? {} : { onEnd: options.onCommand });
  return {
    files: makeFiles(),
    loops,
    mounts,
    filesystems: makeFilesystems({ run, loops, mounts, kernelRelease: facts.kernelRelease }),
    extents: makeExtents(),
    copies: makeCopies(),
    freezer,
    users: makeMountUsers(() => freezer.childPid),
    facts,
    runningPrograms: findRunningPrograms,
    missingPrograms: makeProgramCheck(),
    supportedFilesystems: readSupportedFilesystems,
  };
}
