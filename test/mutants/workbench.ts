import { rmSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { mountsBelow, removeAll } from '../helpers/ground.ts';
import { compiled } from './compiled.ts';
import { type Mutant, mutated, testPathOf } from './mutant.ts';
import { runTests, type TestRun } from './run-tests.ts';

const root = join(import.meta.dirname, '..', '..', '..');

/**
 * A copy of the compiled driver and its tests, in which one module at a time is another one. What the tests make lies in it too,
 * so that whatever a defect leaves behind goes with it.
 */
export class Workbench {
  readonly #directory: string;

  readonly #onExit: () => void;

  private constructor(directory: string) {
    this.#directory = directory;
    this.#onExit = () => {
      rmSync(directory, { recursive: true, force: true });
    };
    process.once('exit', this.#onExit);
  }

  static async make(): Promise<Workbench> {
    // Not `/tmp`, which may be memory, where no device does direct I/O.
    const directory = await mkdtemp('/var/tmp/loopcsi-mutants-');
    const skipped = join(root, 'dist', 'bundle');
    await cp(join(root, 'dist'), join(directory, 'dist'), {
      recursive: true,
      filter: (path) => path !== skipped && !path.endsWith('.map'),
    });
    // As it is now: it may be worked on meanwhile.
    await cp(join(root, 'src'), join(directory, 'src'), { recursive: true });
    // Packages, and what tests read beside code.
    const own = ['dist', 'src', '.git'];
    for (const name of (await readdir(root)).filter((one) => !own.includes(one))) {
      await symlink(join(root, name), join(directory, name));
    }
    return new Workbench(directory);
  }

  /** Every module that is to be changed comes from our compiler from now on, so that a defect is the only difference. */
  async takeOver(files: Iterable<string>): Promise<void> {
    for (const file of files) await this.#put(file, await this.#sourceOf(file));
  }

  /** Runs the tests of a defect with it in place. */
  async try(mutant: Mutant, boundMs: number): Promise<TestRun> {
    const source = await this.#sourceOf(mutant.file);
    await this.#put(mutant.file, mutated(source, mutant));
    try {
      return await this.run(mutant.red, { boundMs, failFast: true });
    } finally {
      await this.#put(mutant.file, source);
    }
  }

  /** Runs these files of tests. */
  async run(
    red: readonly string[],
    options: { boundMs: number; failFast?: boolean },
  ): Promise<TestRun> {
    const scratch = join(this.#directory, 'tmp');
    await mkdir(scratch, { recursive: true });
    const files = red.map((one) => join('dist', `${testPathOf(one)}.js`));
    try {
      return await runTests(files, {
        ...options,
        directory: this.#directory,
        scratch,
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

  async #put(file: string, source: string): Promise<void> {
    const path = join(this.#directory, 'dist', 'src', file.replace(/\.ts$/, '.js'));
    await writeFile(path, await compiled(source));
  }

  #sourceOf(file: string): Promise<string> {
    return readFile(join(this.#directory, 'src', file), 'utf8');
  }
}

/** What writes to a frozen filesystem cannot even be killed. */
async function thawAll(directory: string): Promise<void> {
  for (const target of await mountsBelow(directory)) {
    await execa('fsfreeze', ['--unfreeze', target], { reject: false, timeout: 10_000 });
  }
}
