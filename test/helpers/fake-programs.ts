import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { driverLane } from '../../src/host/lane.ts';
import { lockImage } from '../../src/host/programs/image-lock.ts';

/** A program that still runs after its driver has ended. */
export interface OutlivingProgram {
  readonly pid: number;
  /** Ends the program after all of its work (`done`) or a part of it (`killed`). */
  end(how: 'done' | 'killed'): Promise<void>;
}

interface Work<T> {
  /** The program has begun to change the image. */
  readonly begin: () => Promise<void>;
  readonly finish: () => Promise<T>;
}

/** Programs that a node in memory runs on images. Each takes the real lock of its image while it runs. */
export class FakePrograms {
  #awaited: ((program: OutlivingProgram) => void) | undefined;

  async run<T>(imagePath: string, work: Work<T>): Promise<T> {
    const awaited = this.#awaited;
    if (awaited !== undefined) return this.#outlive(imagePath, work, awaited);
    const lock = await lockImage(driverLane, imagePath);
    try {
      return await work.finish();
    } finally {
      await lock.release();
    }
  }

  /** Makes the next program outlive its driver, whose call never returns. `began` resolves when the program has started. */
  outliveNext(): { readonly began: Promise<OutlivingProgram>; forget(): void } {
    const began = new Promise<OutlivingProgram>((resolve) => {
      this.#awaited = resolve;
    });
    return {
      began,
      forget: () => {
        this.#awaited = undefined;
      },
    };
  }

  async #outlive<T>(
    imagePath: string,
    work: Work<T>,
    awaited: (program: OutlivingProgram) => void,
  ): Promise<never> {
    this.#awaited = undefined;
    const lock = await lockImage(driverLane, imagePath);
    // Ends when its standard input closes, so also when this process ends.
    const child = spawn('cat', [], { stdio: ['pipe', 'ignore', 'ignore', lock.fd] });
    await once(child, 'spawn');
    await lock.release();
    await work.begin();
    const end = async (how: 'done' | 'killed'): Promise<void> => {
      if (how === 'done') await work.finish();
      await ended(child);
    };
    awaited({ pid: child.pid ?? 0, end });
    return new Promise<never>(() => undefined);
  }
}

async function ended(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}
