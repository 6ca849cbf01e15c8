/** A driver process that is attacked, and a tree of files next to it that must not change. */
import { createHash } from 'node:crypto';
import { lstat, mkdir, mkdtemp, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeClient } from '../../../src/csi/client.ts';
import { type DriverProcess, startDriver } from '../../helpers/driver.ts';
import { removeAll } from '../../helpers/scratch-pool.ts';

export interface Fixture {
  readonly directory: string;
  readonly kubeletDir: string;
  readonly canaryDir: string;
  readonly dockerSocket: string;
  readonly driver: DriverProcess;
  /** A digest of everything in the canary tree: names, kinds, modes, contents. */
  canary(): Promise<string>;
  /** Resident memory and open descriptors of the driver. */
  footprint(): Promise<{ readonly residentBytes: number; readonly descriptors: number }>;
  /** Throws unless the driver answers Probe at once. */
  requireAlive(): Promise<void>;
  end(): Promise<readonly string[]>;
}

export async function makeFixture(flags: readonly string[] = []): Promise<Fixture> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-hostile-'));
  const kubeletDir = join(directory, 'kubelet');
  const canaryDir = join(directory, 'canary');
  const dockerSocket = join(directory, 'docker.sock');
  await mkdir(join(directory, 'pool'));
  await mkdir(kubeletDir);
  await mkdir(join(canaryDir, 'deep', 'empty'), { recursive: true });
  await writeFile(join(canaryDir, 'file'), 'canary');
  await writeFile(join(canaryDir, 'deep', 'file'), 'canary');
  await symlink(canaryDir, join(kubeletDir, 'link'));
  await symlink(join(canaryDir, 'file'), join(kubeletDir, 'file-link'));
  const driver = await startDriver(directory, [
    '--http-address=off',
    '--log-level=trace',
    `--kubelet-dir=${kubeletDir}`,
    `--docker-socket=${dockerSocket}`,
    `--mount-dir=${join(directory, 'docker')}`,
    ...flags,
  ]);
  return {
    directory,
    kubeletDir,
    canaryDir,
    dockerSocket,
    driver,
    canary: () => digestOf(canaryDir),
    footprint: () => footprintOf(driver.pid),
    requireAlive: async () => {
      const client = makeClient('csi.v1.Identity', `unix://${driver.endpoint}`);
      try {
        await client.Probe({}, { timeoutMs: 20_000 });
      } finally {
        client.close();
      }
    },
    end: async () => {
      await driver.stop();
      return removeAll(directory);
    },
  };
}

async function digestOf(directory: string): Promise<string> {
  const hash = createHash('sha256');
  const walk = async (path: string): Promise<void> => {
    const status = await lstat(path);
    hash.update(`${path} ${status.mode} ${status.uid} ${status.dev} ${status.ino}\n`);
    if (status.isFile()) hash.update(await readFile(path));
    if (!status.isDirectory()) return;
    for (const name of (await readdir(path)).sort()) await walk(join(path, name));
  };
  await walk(directory);
  return hash.digest('hex');
}

async function footprintOf(pid: number) {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const kibibytes = Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)?.[1]);
  const descriptors = (await readdir(`/proc/${pid}/fd`)).length;
  return { residentBytes: kibibytes * 1024, descriptors };
}
