import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { hasErrno } from '../errors.ts';
import type { LoopDevice, Mount, MountUser, MountUsers } from '../host.ts';
import { readKernelText } from '../kernel/calls.ts';
import type { Lane } from '../lane.ts';
import { containerIdIn } from './container-id.ts';
import { isFilesystemOn } from './loop-mounts.ts';
import { parseMountinfo } from './mountinfo.ts';

/**
 * Searches /proc for the processes that keep a mount or device busy. Everything read here is in kernel memory: no file
 * of a process is opened or looked up, so a hung disk of another process does not block the search. (/proc/PID/maps
 * waits for the memory lock of the process and is read on the thread pool.) The driver and its freeze child are left
 * out.
 */
export function makeMountUsers(lane: Lane, freezeChildPid: () => number | undefined): MountUsers {
  const isOurs = (pid: number): boolean => pid === process.pid || pid === freezeChildPid();
  return {
    ofMounts: (mounts) => {
      const ids = new Set(mounts.map(({ id }) => id));
      return scan(lane, { isWanted: ({ id }) => ids.has(id), device: undefined, isOurs });
    },
    ofDevice: (device) =>
      scan(lane, { isWanted: (mount) => isFilesystemOn(mount, device), device, isOurs }),
    devicesAbove: async ({ number }) =>
      listHolders(`/sys/block/loop${number}/holders`).map((name) =>
        formatDevice(`/sys/block/${name}`, name),
      ),
  };
}

function listHolders(directory: string): readonly string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    // The device was removed.
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/** Formats a device as `md127` or `dm-1 (group-volume)`: operators know device mapper devices by name. */
function formatDevice(directory: string, name: string): string {
  try {
    return `${name} (${readFileSync(`${directory}/dm/name`, 'utf8').trim()})`;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return name;
    throw error;
  }
}

/**
 * The search stops after this many processes: a message names only a few, and a machine may have tens of thousands of
 * open files.
 */
const maxFound = 5;
const scanTimeoutMs = 1_000;
/** Maximum time for which the search blocks the event loop before it yields. */
const sliceMs = 5;

interface Wanted {
  readonly isWanted: (mount: Mount) => boolean;
  /**
   * If set, the search includes processes that have the device open, and other mount namespaces that have it mounted.
   */
  readonly device: LoopDevice | undefined;
  readonly isOurs: (pid: number) => boolean;
}

/** The mounts of one namespace, and the IDs of those that are searched for. */
interface Namespace {
  readonly table: readonly Mount[];
  readonly ids: ReadonlySet<number>;
}

async function scan(lane: Lane, wanted: Wanted): Promise<readonly MountUser[]> {
  const found: MountUser[] = [];
  const namespaces = new Map<string, Namespace>();
  const ownNamespace = tryReadLink('/proc/self/ns/mnt') ?? '';
  namespaces.set(ownNamespace, await readNamespace(lane, 'self', wanted));
  const seen = new Set([ownNamespace]);
  const giveUpAt = performance.now() + scanTimeoutMs;
  let pauseAt = performance.now() + sliceMs;
  for (const pid of listPids()) {
    if (found.length >= maxFound || performance.now() > giveUpAt) break;
    if (performance.now() > pauseAt) {
      await nextTurn();
      pauseAt = performance.now() + sliceMs;
    }
    const link = tryReadLink(`/proc/${pid}/ns/mnt`);
    if (link === undefined || wanted.isOurs(pid)) continue;
    const namespace = namespaces.get(link) ?? (await readNamespace(lane, pid, wanted));
    namespaces.set(link, namespace);
    // If another namespace has it mounted, one process of that namespace is reported.
    const keepsNamespace = wanted.device !== undefined && namespace.ids.size > 0 && !seen.has(link);
    seen.add(link);
    if (
      keepsNamespace ||
      hasOpen(pid, idsOf(namespaces), wanted) ||
      hasDirectoryOn(pid, namespace) ||
      (await hasMapped(lane, pid, namespace))
    ) {
      found.push(describe(pid));
    }
  }
  return found;
}

function describe(pid: number): MountUser {
  const containerId = containerIdIn(tryReadText(`/proc/${pid}/cgroup`));
  return { pid, command: commandOf(pid), ...(containerId === undefined ? {} : { containerId }) };
}

function listPids(): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function idsOf(namespaces: ReadonlyMap<string, Namespace>): ReadonlySet<number> {
  return new Set([...namespaces.values()].flatMap(({ ids }) => [...ids]));
}

async function readNamespace(
  lane: Lane,
  pid: number | 'self',
  { isWanted }: Wanted,
): Promise<Namespace> {
  const text = await readKernelText(lane, `/proc/${pid}/mountinfo`).catch((error: unknown) => {
    // The process has ended, or this process may not inspect it.
    if (hasErrno(error, 'ENOENT', 'EACCES', 'EPERM', 'ESRCH', 'EINVAL')) return '';
    throw error;
  });
  const table = parseMountinfo(text);
  return { table, ids: new Set(table.filter(isWanted).map(({ id }) => id)) };
}

/**
 * Whether the process has a file open on one of the mounts, or the device itself. fdinfo has the mount of an open file,
 * however it was opened.
 */
function hasOpen(pid: number, ids: ReadonlySet<number>, { device }: Wanted): boolean {
  for (const fd of listNames(`/proc/${pid}/fd`)) {
    const path = tryReadLink(`/proc/${pid}/fd/${fd}`) ?? '';
    if (path === device?.path) return true;
    if (!path.startsWith('/') || path.startsWith('/proc/') || path.startsWith('/dev/')) continue;
    const id = /^mnt_id:\s*(\d+)$/m.exec(tryReadText(`/proc/${pid}/fdinfo/${fd}`))?.[1];
    if (id !== undefined && ids.has(Number(id))) return true;
  }
  return false;
}

/** Whether the working directory or root of the process is on one of the mounts. */
function hasDirectoryOn(pid: number, { table, ids }: Namespace): boolean {
  if (ids.size === 0) return false;
  return ['cwd', 'root'].some((name) => {
    const path = tryReadLink(`/proc/${pid}/${name}`);
    return path !== undefined && ids.has(mountOfPath(table, path)?.id ?? -1);
  });
}

/**
 * Whether the process has mapped a file of one of the mounts, such as a program or library. Mappings are found by their
 * path.
 */
async function hasMapped(lane: Lane, pid: number, { table, ids }: Namespace): Promise<boolean> {
  if (ids.size === 0) return false;
  const maps = await readKernelText(lane, `/proc/${pid}/maps`).catch(() => '');
  return maps.split('\n').some((line) => {
    const path = /\/.*/.exec(line)?.[0];
    return path !== undefined && ids.has(mountOfPath(table, path)?.id ?? -1);
  });
}

/** The mount that contains the path. */
function mountOfPath(table: readonly Mount[], path: string): Mount | undefined {
  return table
    .filter(({ target }) => target === '/' || path === target || path.startsWith(`${target}/`))
    .reduce<Mount | undefined>(
      (best, candidate) =>
        best === undefined || candidate.target.length >= best.target.length ? candidate : best,
      undefined,
    );
}

/** The name of the program (comm), without characters that would break a line. */
function commandOf(pid: number): string {
  const command = tryReadText(`/proc/${pid}/comm`).replace(/[^\x20-\x7e]/g, '');
  return command === '' ? 'process' : command;
}

function tryReadText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function tryReadLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

function listNames(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
