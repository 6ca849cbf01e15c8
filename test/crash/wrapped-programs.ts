/**
 * Wraps the programs that the driver runs, so that one of them can be killed or stopped at its n-th write. A wrapper is mounted
 * over each program, in the mount namespace of the tests only.
 */
import {
  chmod,
  copyFile,
  mkdir,
  readFile,
  readlink,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import {
  commonPrograms,
  findProgram,
  type Program,
  programs,
} from '../../src/host/programs/programs.ts';
import { until } from '../helpers/until.ts';

/** Environment variable with the mount namespace from which the tests were started. */
export const outsideVariable = 'LOOPCSI_CRASH_OUTSIDE';

/** Other software runs the common programs too. `Object.keys` returns strings; these are the keys of `programs`. */
const wrappedNames = (Object.keys(programs) as Program[]).filter(
  (name) => !commonPrograms.has(name),
);

/** The signal that a program gets at its n-th write. */
export interface ProgramMoment {
  readonly program: Program;
  readonly signal: 'KILL' | 'STOP';
  readonly nth: number;
}

export class WrappedPrograms {
  readonly #directory: string;
  readonly #mounted: string[] = [];

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** Mounts the wrappers. `directory` must exist; their files are stored there. */
  static async mount(directory: string): Promise<WrappedPrograms> {
    const outside = process.env[outsideVariable];
    if (outside === undefined || outside === (await readlink('/proc/self/ns/mnt'))) {
      throw new Error(
        'programs are wrapped in a mount namespace of the tests only: npm run test:crash',
      );
    }
    const wrapped = new WrappedPrograms(directory);
    await mkdir(join(directory, 'real'));
    const wrapper = join(directory, 'wrapper');
    await writeFile(wrapper, script(directory));
    await chmod(wrapper, 0o755);
    for (const name of wrappedNames) {
      const path = await findProgram(name);
      if (path === undefined) throw new Error(`${name} is not installed`);
      await copyFile(path, join(directory, 'real', name));
    }
    for (const name of wrappedNames) {
      const path = await findProgram(name);
      if (path === undefined) continue;
      await execa('mount', ['--bind', wrapper, path]);
      wrapped.#mounted.push(path);
    }
    await wrapped.disarm();
    return wrapped;
  }

  async end(): Promise<void> {
    for (const path of this.#mounted.reverse()) await execa('umount', [path]);
  }

  /** From now on each run of the program gets the signal at its n-th write. */
  async arm({ program, signal, nth }: ProgramMoment): Promise<void> {
    await this.#plan(`${program} ${signal} ${nth}`);
  }

  /** Counts the program's writes from now on. */
  async count(program: Program): Promise<void> {
    await this.#plan(`${program} COUNT 0`);
  }

  async disarm(): Promise<void> {
    await this.#plan('none NONE 0');
  }

  async #plan(line: string): Promise<void> {
    const plan = join(this.#directory, 'plan');
    await rm(join(this.#directory, 'writes'), { force: true });
    await rm(join(this.#directory, 'ran'), { force: true });
    await writeFile(`${plan}.new`, `${line}\n`);
    await rename(`${plan}.new`, plan);
  }

  /** How often the program has written since `count` or `arm`. */
  async writes(): Promise<number> {
    const text = await this.#textOf('writes');
    return text.split('\n').filter((line) => line.includes('pwrite64(')).length;
  }

  /** The programs that ran since the last plan. */
  async ran(): Promise<readonly string[]> {
    return (await this.#textOf('ran')).split('\n').filter((line) => line !== '');
  }

  async #textOf(name: string): Promise<string> {
    return readFile(join(this.#directory, name), 'utf8').catch(() => '');
  }

  /** Waits until the program is stopped at its n-th write, and returns its process id. */
  async stopped(): Promise<number> {
    let pid = 0;
    await until(
      'the program is stopped',
      async () => {
        pid = Number((await this.#textOf('pid')).trim());
        const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
        // T: stopped by the signal; t: stopped under a tracer.
        return (
          pid > 0 &&
          /^State:\s+[Tt]/m.test(status) &&
          (await this.#textOf('writes')).includes('SIGSTOP')
        );
      },
      30_000,
    );
    return pid;
  }
}

/** The traced program keeps the process id that the driver knows: its tracer runs as a grandchild (strace -D). */
function script(directory: string): string {
  const trace = `-D -q -A -o ${directory}/writes -e trace=pwrite64`;
  return `#!/bin/sh
name=\${0##*/}
read -r wanted signal nth <${directory}/plan
echo "$name" >>${directory}/ran
real=${directory}/real/$name
[ "$name" = "$wanted" ] || exec "$real" "$@"
echo $$ >${directory}/pid
[ "$signal" != COUNT ] || exec strace ${trace} "$real" "$@"
exec strace ${trace} -e inject=pwrite64:signal=$signal:when=$nth "$real" "$@"
`;
}
