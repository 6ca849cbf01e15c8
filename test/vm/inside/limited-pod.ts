import { mkdir, readFile, rmdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa, type ResultPromise } from 'execa';

const defaultRoot = '/sys/fs/cgroup/loopcsi-pods';
const controllers = '+io +memory';

/** The cgroups that a container platform makes: one for all pods, the pod's with the limit, and the container's below it. */
export class LimitedPod {
  readonly #pod: string;
  readonly #container: string;

  private constructor(name: string, root: string) {
    this.#pod = join(root, name);
    this.#container = join(this.#pod, 'container');
  }

  /** `root` is the cgroup for all pods. */
  static async make(name: string, root: string = defaultRoot): Promise<LimitedPod> {
    const pod = new LimitedPod(name, root);
    for (const directory of [root, pod.#pod]) {
      await mkdir(directory, { recursive: true });
      await writeFile(join(directory, 'cgroup.subtree_control'), controllers);
    }
    await mkdir(pod.#container, { recursive: true });
    return pod;
  }

  /** Sets a limit for a block device: `wbps=1048576`, for example. */
  async limit(device: string, limit: string): Promise<void> {
    await writeFile(join(this.#pod, 'io.max'), `${await numberOf(device)} ${limit}`);
  }

  async unlimit(device: string): Promise<void> {
    await this.limit(device, 'rbps=max wbps=max riops=max wiops=max');
  }

  /** Runs a program in the container's cgroup and returns its duration in milliseconds. */
  async run(argv: readonly string[]): Promise<number> {
    const startedAtMs = performance.now();
    await this.start(argv);
    return performance.now() - startedAtMs;
  }

  /** Starts a program in the container's cgroup. */
  start(argv: readonly string[]): ResultPromise {
    const enter = `echo $$ >${this.#container}/cgroup.procs && exec "$@"`;
    return execa('sh', ['-c', enter, 'sh', ...argv]);
  }

  /** The bytes written to a device that the pod's cgroup is charged for. */
  async writtenBytes(device: string): Promise<number> {
    return writtenBytes(device, this.#pod);
  }

  /** Removes the cgroups. None of their programs may run any more. */
  async remove(): Promise<void> {
    for (const directory of [this.#container, this.#pod]) await rmdir(directory);
  }
}

/** The bytes written to a device that a cgroup is charged for: without one the root, which is charged for all. */
export async function writtenBytes(device: string, cgroup = '/sys/fs/cgroup'): Promise<number> {
  const number = await numberOf(device);
  const lines = (await readFile(join(cgroup, 'io.stat'), 'utf8')).split('\n');
  const line = lines.find((one) => one.startsWith(`${number} `)) ?? '';
  return Number(/\bwbytes=(\d+)/.exec(line)?.[1] ?? 0);
}

/** `major:minor`, as io.max expects it. */
export async function numberOf(device: string): Promise<string> {
  const { rdev } = await stat(device);
  return `${rdev >> 8}:${(rdev & 0xff) | ((rdev >> 12) & 0xfff00)}`;
}
