import type { FileHandle } from 'node:fs/promises';
import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { FileIdentity, RunningProgram } from '../host.ts';
import { fsCall } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';
import { commonPrograms, programs } from './programs.ts';

/**
 * Finds running programs from the table in programs.ts in /proc, whichever process started them, and their open files.
 */

const programNames: ReadonlySet<string> = new Set(
  Object.keys(programs).filter((name) => !commonPrograms.has(name)),
);

interface Process {
  readonly pid: number;
  readonly name: string;
}

/** Returns the running programs from the table that this process can see, with the paths of their open files. */
export async function findRunningPrograms(): Promise<readonly RunningProgram[]> {
  const running: RunningProgram[] = [];
  for (const { pid, name } of await listProcesses()) {
    if (!programNames.has(name)) continue;
    const links = await Promise.all(
      (await listDescriptors(pid)).map((fd) => readlink(descriptorOf(pid, fd)).catch(() => '')),
    );
    running.push({ name, pid, paths: [...new Set(links.filter((path) => path.startsWith('/')))] });
  }
  return running;
}

/** Returns the process that has this file open; undefined if none is visible. */
export async function findHolder(
  lane: Lane,
  handle: FileHandle,
  imagePath: string,
): Promise<{ readonly name: string; readonly pid: number } | undefined> {
  const { dev, ino } = await fsCall(lane, 'fstat', imagePath, () => handle.stat({ bigint: true }));
  const others = (await listProcesses()).filter(({ pid }) => pid !== process.pid);
  const ours = others.filter(({ name }) => programNames.has(name));
  for (const candidate of [...ours, ...others]) {
    if (await hasOpen(candidate.pid, { device: dev, inode: ino })) return candidate;
  }
  return undefined;
}

/**
 * Whether the process has the file open. The inode is read from fdinfo first, which does not access the filesystem:
 * calling stat for every open file on the machine would block on the first filesystem that hangs. (Before Linux 5.14
 * fdinfo has no inode.)
 */
async function hasOpen(pid: number, file: FileIdentity): Promise<boolean> {
  for (const fd of await listDescriptors(pid)) {
    const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'latin1').catch(() => '');
    const inode = /^ino:\s*(\d+)$/m.exec(info)?.[1];
    if (inode !== undefined && BigInt(inode) !== file.inode) continue;
    const found = await stat(descriptorOf(pid, fd), { bigint: true }).catch(() => undefined);
    if (found?.dev === file.device && found.ino === file.inode) return true;
  }
  return false;
}

async function listProcesses(): Promise<readonly Process[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => {
      // A process that has ended has no name.
      const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
      return { pid, name: name.trimEnd() };
    }),
  );
  return found.filter(({ name }) => name !== '');
}

function listDescriptors(pid: number): Promise<readonly string[]> {
  return readdir(`/proc/${pid}/fd`).catch(() => []);
}

function descriptorOf(pid: number, fd: string): string {
  return join('/proc', String(pid), 'fd', fd);
}
