/** Random actions of other software while the driver works and is killed. Each action lasts for a moment. */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MiB } from '../../src/units.ts';
import { realOtherSoftware, type StopUse } from '../helpers/other-software.ts';
import { devicesBelow, mountsBelow } from '../helpers/scratch-pool.ts';
import type { Random } from './random.ts';
import type { TestNode } from './test-node.ts';

export class RandomOtherSoftware {
  readonly #testNode: TestNode;
  readonly #random: Random;
  #stopped = true;
  /** Number of actions of each kind. */
  readonly done = new Map<string, number>();

  constructor(testNode: TestNode, random: Random) {
    this.#testNode = testNode;
    this.#random = random;
  }

  /** Acts until `stop`. All actions have ended when this resolves. */
  async run(): Promise<void> {
    this.#stopped = false;
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-other-software-'));
    try {
      await Promise.all([this.#walk(directory, 'a'), this.#walk(directory, 'b')]);
    } finally {
      await rm(directory, { recursive: true });
    }
  }

  stop(): void {
    this.#stopped = true;
  }

  async #walk(directory: string, name: string): Promise<void> {
    while (!this.#stopped) {
      // The device or file may have been deleted meanwhile.
      const stopUse = await this.#begin(directory, name).catch(() => undefined);
      for (let left = this.#random.below(12); left > 0 && !this.#stopped; left -= 1)
        await delay(50);
      await stopUse?.();
      await delay(20);
    }
  }

  async #begin(directory: string, name: string): Promise<StopUse | undefined> {
    const what = this.#random.pick(['device', 'file', 'number', 'mount'] as const);
    const stopUse = await this.#act[what](directory, name);
    if (stopUse !== undefined) this.done.set(what, (this.done.get(what) ?? 0) + 1);
    return stopUse;
  }

  readonly #act = {
    /** Opens a volume's device, as udev and LVM do. */
    device: async (): Promise<StopUse | undefined> => {
      const found = this.#pick(await devicesBelow(this.#testNode.directory));
      return found === undefined ? undefined : realOtherSoftware.openFile(found.device);
    },
    /** Keeps a file of a staged volume open, so that the volume cannot be unmounted. */
    file: async (): Promise<StopUse | undefined> => {
      const target = this.#pick(await this.#stagedPaths());
      if (target === undefined) return undefined;
      const file = this.#pick(await readdir(target));
      return file === undefined ? undefined : realOtherSoftware.openFile(join(target, file));
    },
    /** Attaches an image of other software to the lowest free loop number. */
    number: async (directory: string, name: string): Promise<StopUse | undefined> => {
      const image = join(directory, name);
      await writeFile(image, Buffer.alloc(Number(MiB), 'not of the driver '));
      const number = await realOtherSoftware.attach(image);
      return () => realOtherSoftware.clearDevice(number);
    },
    /** Keeps a staged volume mounted in another mount namespace. */
    mount: async (): Promise<StopUse | undefined> => {
      const target = this.#pick(await this.#stagedPaths());
      if (target === undefined) return undefined;
      return realOtherSoftware.mountElsewhere(target);
    },
  };

  async #stagedPaths(): Promise<readonly string[]> {
    return (await mountsBelow(this.#testNode.pathOf('staging'))).filter(
      (target) => !target.endsWith('/device'),
    );
  }

  #pick<T>(from: readonly T[]): T | undefined {
    return from[this.#random.below(from.length)];
  }
}
