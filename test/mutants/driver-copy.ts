import { rmSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { mountsBelow, removeAll } from '../helpers/scratch-pool.ts';
import { compiled } from './compiled.ts';
import { isOnDevices, type Mutant, testPathOf } from './defect.ts';
import { runTests, type TestRun } from './run-tests.ts';

const root = join(import.meta.dirname, '..', '..', '..');

/**
 * A copy of the compiled driver and its tests, in which one module at a time is replaced. The files of the tests are in it too, so
 * the leftovers of a defect are removed with it.
 */
export class DriverCopy {
  readonly #directory: string;

  readonly #onExit: () => void;

  private constructor(directory: string) {
    this.#directory = directory;
    this.#onExit = () => {
      rmSync(directory, { recursive: true, force: true });
    };
    process.once('exit', this.#onExit);
  }

  static async make(): Promise<DriverCopy> {
    // Not `/tmp`: tmpfs has no direct I/O for loop devices.
    const directory = await mkdtemp('/var/tmp/loopcsi-mutants-');
    const bundle = join(root, 'dist', 'bundle');
    await cp(join(root, 'dist'), join(directory, 'dist'), {
      recursive: true,
      filter: (path) => path !== bundle && !path.endsWith('.map'),
    });
    // bin/loopcsi starts the bundle, which has no defect in it.
    await mkdir(join(directory, 'dist', 'bundle'));
    await writeFile(join(directory, 'dist', 'bundle', 'main.js'), "import '../src/main.js';\n");
    // Copied, since the original may be edited meanwhile.
    await cp(join(root, 'src'), join(directory, 'src'), { recursive: true });
    // Packages, and the other files that tests read.
    const own = ['dist', 'src', '.git'];
    for (const name of (await readdir(root)).filter((one) => !own.includes(one))) {
      await symlink(join(root, name), join(directory, name));
    }
    return new DriverCopy(directory);
  }

  /** Recompiles these modules with our compiler, so that a defect is the only difference. */
  async takeOver(files: Iterable<string>): Promise<void> {
    for (const file of files) await this.#restore(file);
  }

  /** Runs the tests of a mutant on the driver with its defect. */
  async try({ file, module, tests }: Mutant, timeLimitMs: number): Promise<TestRun> {
    await this.#put(file, module);
    try {
      return await this.run(tests, { timeLimitMs, failFast: true });
    } finally {
      await this.#restore(file);
    }
  }

  /** Runs these test files. */
  async run(
    tests: readonly string[],
    options: { timeLimitMs: number; failFast?: boolean },
  ): Promise<TestRun> {
    const scratch = join(this.#directory, 'tmp');
    await mkdir(scratch, { recursive: true });
    const files = tests.map((one) => join('dist', `${testPathOf(one)}.js`));
    try {
      return await runTests(files, {
        ...options,
        directory: this.#directory,
        scratch,
        // Devices and mounts take longer to clean up than the files of a test in memory.
        graceMs: tests.some(isOnDevices) ? 20_000 : 2_000,
        beforeKill: () => thawAll(scratch),
      });
    } finally {
      await removeAll(scratch);
    }
  }

  async remove(): Promise<void> {
    await removeAll(this.#directory);
    process.off('exit', this.#onExit);
  }

  sourceOf(file: string): Promise<string> {
    return readFile(join(this.#directory, 'src', file), 'utf8');
  }

  async #restore(file: string): Promise<void> {
    await this.#put(file, await compiled(await this.sourceOf(file)));
  }

  async #put(file: string, module: string): Promise<void> {
    await writeFile(join(this.#directory, 'dist', 'src', file.replace(/\.ts$/, '.js')), module);
  }
}

/** A process that writes to a frozen filesystem cannot even be killed. */
async function thawAll(directory: string): Promise<void> {
  for (const target of await mountsBelow(directory)) {
    await execa('fsfreeze', ['--unfreeze', target], { reject: false, timeout: 10_000 });
  }
}
