import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { until } from './until.ts';

/** A directory served by a FUSE filesystem that can stop answering, like a network disk whose server is unreachable. */
export class StalledFuse {
  readonly #server: ChildProcess;
  readonly #directory: string;

  private constructor(server: ChildProcess, directory: string) {
    this.#server = server;
    this.#directory = directory;
  }

  /** Mounts the filesystem at `DIRECTORY/pool`. */
  static async mount(directory: string): Promise<StalledFuse> {
    const target = join(directory, 'pool');
    const layers = ['lower', 'upper', 'work'].map((name) => [name, join(directory, name)] as const);
    for (const path of [target, ...layers.map(([, layer]) => layer)]) await mkdir(path);
    const options = layers.map(([name, layer]) => `${name}dir=${layer}`);
    // An overlay of one layer has everything that a pool needs. It runs in the foreground, as our child process.
    const server = spawn('fuse-overlayfs', ['-f', '-o', options.join(','), target], {
      stdio: 'ignore',
    });
    const fuse = new StalledFuse(server, target);
    await until('the FUSE filesystem is mounted', () => fuse.#isMounted());
    return fuse;
  }

  async #isMounted(): Promise<boolean> {
    const { exitCode } = this.#server;
    if (exitCode !== null) throw new Error(`fuse-overlayfs ended with ${exitCode}`);
    return (await readFile('/proc/self/mountinfo', 'utf8')).includes(` ${this.#directory} `);
  }

  /** From now on every process that uses the filesystem waits in the kernel. */
  stall(): void {
    this.#server.kill('SIGSTOP');
  }

  resume(): void {
    this.#server.kill('SIGCONT');
  }

  /** Call it after the unmount, which ends the server. A server that does not end is killed. */
  async ended(): Promise<void> {
    this.resume();
    const hasEnded = async (): Promise<boolean> =>
      this.#server.exitCode !== null || this.#server.signalCode !== null;
    await until('the FUSE server has ended', hasEnded, 10_000).catch(async () => {
      const exit = once(this.#server, 'exit');
      this.#server.kill('SIGKILL');
      await exit;
    });
  }
}
