/** Another driver of the same node, which has its own pools but the same state directory. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { volumeIdFor } from '../../src/ids.ts';
import type { OpenedVolumes } from '../../src/volumes/open.ts';
import { call, volumeInput } from '../helpers/scratch-node.ts';
import type { Subject } from './subject.ts';

export class SecondDriver {
  readonly #subject: Subject;
  #opened: OpenedVolumes | undefined;
  #starts = 0;
  /** Pools that the state directory must not lose. */
  readonly #directories = new Set<string>();
  /** Volumes that the state directory must not lose. */
  readonly #volumeIds = new Set<string>();

  constructor(subject: Subject) {
    this.#subject = subject;
  }

  /** Ends the driver if it runs; else starts it with one of two pools and creates a volume there. */
  async toggle(): Promise<void> {
    if (this.#opened !== undefined) return this.end();
    const name = this.#starts % 2 === 0 ? 'left' : 'right';
    this.#starts += 1;
    this.#opened = await this.#subject.openBeside(name);
    this.#directories.add(join(this.#subject.directory, name));
    const volume = `of-${name}`;
    await this.#opened.docker.create(call(), volumeInput(volume));
    this.#volumeIds.add(volumeIdFor(volume, this.#opened.domain.settings.nodeTag));
  }

  async end(): Promise<void> {
    await this.#opened?.close(2_000);
    this.#opened = undefined;
  }

  /** A pool or volume id that the state directory has lost. */
  async missing(): Promise<string | undefined> {
    if (this.#starts === 0) return undefined;
    const state = join(this.#subject.directory, 'state');
    const pools = await readFile(join(state, 'pools.json'), 'utf8');
    const own = join(this.#subject.directory, 'pool');
    const pool = [own, ...this.#directories].find((path) => !pools.includes(JSON.stringify(path)));
    if (pool !== undefined) return `pools.json has lost the pool at ${pool}`;
    const knownIds = await readdir(join(state, 'known-volumes'));
    const volume = [...this.#volumeIds].find((id) => !knownIds.includes(id));
    return volume === undefined ? undefined : `known-volumes has lost the volume ${volume}`;
  }
}
