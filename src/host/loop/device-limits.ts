import { access, constants, readdir, readFile, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno, KernelError } from '../errors.ts';
import type { DeviceLimits, IoLimits, PodsCgroup } from '../host.ts';
import { fsCall } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';
import { formatIoMax, hasLimits, parseIoMax } from './io-limits.ts';

/** Where distributions mount cgroup v2. */
const cgroupRoot = '/sys/fs/cgroup';
/** CGROUP2_SUPER_MAGIC of linux/magic.h. */
const cgroup2Magic = 0x63677270n;

/** What all lanes know of the cgroup: the path that is configured, and what was found last. */
export class CgroupState {
  readonly configured: string | undefined;
  found: PodsCgroup | undefined;

  constructor(configured: string | undefined) {
    this.configured = configured;
  }
}

/** Sets limits in `io.max` of the configured cgroup, or of the one that contains all pods of this node. */
export function makeDeviceLimits(lane: Lane, state: CgroupState): DeviceLimits {
  const findCgroup = async (): Promise<PodsCgroup> => {
    state.found = await findPodsCgroup(lane, state.configured);
    return state.found;
  };
  return {
    findCgroup,
    list: async () => {
      const cgroup = state.found ?? (await findCgroup());
      return 'path' in cgroup ? listLimits(lane, cgroup.path) : new Map();
    },
    set: async (majorMinor, limits) => {
      const isRemoval = !hasLimits(limits);
      const cgroup = isRemoval ? (state.found ?? (await findCgroup())) : await findCgroup();
      if ('path' in cgroup) await writeLimits(lane, cgroup.path, { majorMinor, limits });
      else if (!isRemoval) throw new KernelError('write io.max', 'ENOENT', cgroup.problem);
    },
  };
}

async function listLimits(lane: Lane, cgroup: string): Promise<ReadonlyMap<string, IoLimits>> {
  const file = join(cgroup, 'io.max');
  try {
    return parseIoMax(await fsCall(lane, 'read', file, () => readFile(file, 'utf8')));
  } catch (error) {
    // The cgroup was removed, and with it all limits.
    if (hasErrno(error, 'ENOENT', 'ENODEV')) return new Map();
    throw error;
  }
}

async function writeLimits(
  lane: Lane,
  cgroup: string,
  { majorMinor, limits }: { readonly majorMinor: string; readonly limits: IoLimits },
): Promise<void> {
  const file = join(cgroup, 'io.max');
  try {
    const line = formatIoMax(majorMinor, limits);
    await fsCall(lane, 'write', file, () => writeFile(file, line, { flag: 'r+' }));
  } catch (error) {
    // Neither a removed cgroup nor a removed device has limits.
    if (!hasLimits(limits) && hasErrno(error, 'ENOENT', 'ENODEV')) return;
    throw error;
  }
}

async function findPodsCgroup(lane: Lane, configured: string | undefined): Promise<PodsCgroup> {
  if (configured !== undefined) return checkCgroup(lane, configured);
  if (!(await isCgroup2(lane, cgroupRoot))) return v1Problem(cgroupRoot);
  const own = await findOwnPodsCgroup(lane);
  if (own !== undefined) return checkCgroup(lane, own);
  const names = await fsCall(lane, 'readdir', cgroupRoot, () => readdir(cgroupRoot));
  const found = names.filter(isNameOfPods);
  const [name] = found;
  if (name !== undefined && found.length === 1) return checkCgroup(lane, join(cgroupRoot, name));
  return {
    problem:
      name === undefined
        ? `${cgroupRoot} has no cgroup named kubepods*, the one that contains all pods`
        : `${cgroupRoot} has several cgroups for pods: ${found.join(', ')}`,
    remedy:
      "in Kubernetes, mount the host's /sys/fs/cgroup into the driver's container (chart value driver.ioLimits.enabled); elsewhere, name the cgroup above the processes that use volumes with --pods-cgroup",
  };
}

const isNameOfPods = (name: string): boolean => /^kubepods(?:\.slice)?$/.test(name);

/** The topmost cgroup of this process that is named `kubepods*`: the kubelet's --cgroup-root may be above it. */
async function findOwnPodsCgroup(lane: Lane): Promise<string | undefined> {
  const file = '/proc/self/cgroup';
  const text = await fsCall(lane, 'read', file, () => readFile(file, 'utf8'));
  const path = podsCgroupIn(text);
  if (path === undefined) return undefined;
  const found = join(cgroupRoot, path);
  // A container may see only a part of the hierarchy.
  return (await isCgroup2(lane, found)) ? found : undefined;
}

/** The path of the topmost cgroup for pods in a text of /proc/PID/cgroup; undefined if the process is in no pod. */
export function podsCgroupIn(text: string): string | undefined {
  const names = /^0::(.*)$/m.exec(text)?.[1]?.split('/') ?? [];
  const index = names.findIndex((name) => /^(?:.*-)?kubepods(?:\.slice)?$/.test(name));
  return index < 0 ? undefined : names.slice(0, index + 1).join('/');
}

async function isCgroup2(lane: Lane, path: string): Promise<boolean> {
  try {
    const { type } = await fsCall(lane, 'statfs', path, () => statfs(path, { bigint: true }));
    return type === cgroup2Magic;
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}

async function checkCgroup(lane: Lane, path: string): Promise<PodsCgroup> {
  if (!(await isCgroup2(lane, path))) return v1Problem(path);
  const file = join(path, 'io.max');
  try {
    const mode = constants.R_OK | constants.W_OK;
    await fsCall(lane, 'access', file, () => access(file, mode));
    return { path };
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) {
      return {
        problem: `${path} has no io.max, because the io controller is not enabled for it`,
        remedy: `enable it in the cgroup above: echo +io >${join(path, '..', 'cgroup.subtree_control')}; with systemd, set IOAccounting=yes for the slice`,
      };
    }
    if (!hasErrno(error, 'EACCES', 'EROFS', 'EPERM')) throw error;
    return {
      problem: `${file} cannot be written (${error instanceof KernelError ? error.errno : 'EACCES'})`,
      remedy:
        "mount the host's /sys/fs/cgroup into the driver's container, not read-only (chart value driver.ioLimits.enabled)",
    };
  }
}

function v1Problem(path: string): PodsCgroup {
  return {
    problem: `${path} is not a directory of cgroup v2`,
    remedy:
      'I/O limits need cgroup v2: boot the node with it (kernel argument systemd.unified_cgroup_hierarchy=1), or correct --pods-cgroup; without it, use volumes without limits',
  };
}
