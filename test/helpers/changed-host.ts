import type { Host } from '../../src/host/host.ts';

/** The same node with some parts replaced, in every lane. */
export function changedHost(host: Host, change: (host: Host) => Partial<Host>): Host {
  const { files, loops, deviceLimits, mounts, filesystems, extents, copies, trees } = host;
  const { freezer, users, facts, diagnostics } = host;
  return {
    files,
    loops,
    deviceLimits,
    mounts,
    filesystems,
    extents,
    copies,
    trees,
    freezer,
    users,
    diagnostics,
    facts,
    runningPrograms: () => host.runningPrograms(),
    missingPrograms: () => host.missingPrograms(),
    supportedFilesystems: () => host.supportedFilesystems(),
    ...change(host),
    lane: host.lane,
    inLane: (lane) => changedHost(host.inLane(lane), change),
  };
}
