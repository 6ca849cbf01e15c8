import { makeCopies } from './files/copy.ts';
import { makeExtents } from './files/extents.ts';
import { makeFiles } from './files/files.ts';
import { Ext4State } from './filesystem/ext4/ext4.ts';
import { makeFilesystems } from './filesystem/filesystems.ts';
import { makeTrees } from './filesystem/trees.ts';
import { makeFreezer, SharedFreezeChild } from './freeze/freezer.ts';
import type { DeviceLimits, Host } from './host.ts';
import { readFacts, readSupportedFilesystems } from './kernel/node-facts.ts';
import { driverLane, type Lane } from './lane.ts';
import { CgroupState, makeDeviceLimits } from './loop/device-limits.ts';
import { LoopState, makeLoopDevices } from './loop/devices.ts';
import { readLoopLimits } from './loop/limits.ts';
import { makeMounts } from './mount/mounts.ts';
import { readPropagation } from './mount/propagation.ts';
import { makeMountUsers } from './mount/users.ts';
import { LongProgramSlots } from './programs/long-program-slots.ts';
import { makeProgramCheck } from './programs/programs.ts';
import { type EndedCommand, makeRun } from './programs/run.ts';
import { findRunningPrograms } from './programs/running-programs.ts';
import { readProgramVersions } from './programs/versions.ts';

interface HostOptions {
  /** Called for every program that ended, for log and metrics. */
  readonly onCommand?: (command: EndedCommand) => void;
  /** The cgroup in which the limits of devices are set; by default the one with all pods of this node. */
  readonly podsCgroup?: string | undefined;
  /** Replaces `io.max` of cgroup v2, in tests on machines that lack it. */
  readonly deviceLimits?: DeviceLimits | undefined;
}

/** Creates the host that acts on this node through kernel calls and programs. */
export function makeRealHost(options: HostOptions = {}): Host {
  const run = makeRun(options.onCommand === undefined ? {} : { onEnd: options.onCommand });
  const longProgramSlots = new LongProgramSlots();
  const child = new SharedFreezeChild();
  const state = new LoopState();
  const cgroup = new CgroupState(options.podsCgroup);
  const ext4State = new Ext4State();
  const missingPrograms = makeProgramCheck();
  const facts = readFacts();
  const { kernelRelease } = facts;
  const inLane = (lane: Lane): Host => {
    const deviceLimits = options.deviceLimits ?? makeDeviceLimits(lane, cgroup);
    const loops = makeLoopDevices(lane, state, deviceLimits);
    const mounts = makeMounts(lane);
    return {
      lane,
      inLane,
      files: makeFiles(lane),
      loops,
      deviceLimits,
      mounts,
      filesystems: makeFilesystems(lane, { run, loops, mounts, ext4State, kernelRelease }),
      extents: makeExtents(lane),
      copies: makeCopies(lane),
      trees: makeTrees(lane, { run, loops, mounts, longProgramSlots }),
      freezer: makeFreezer(child, mounts),
      users: makeMountUsers(lane, () => child.childPid),
      facts,
      diagnostics: {
        programVersions: () => readProgramVersions(lane, run),
        loopLimits: () => readLoopLimits(lane),
        propagationOf: (directory) => readPropagation(lane, directory),
      },
      runningPrograms: findRunningPrograms,
      missingPrograms,
      supportedFilesystems: () => readSupportedFilesystems(lane),
    };
  };
  return inLane(driverLane);
}
