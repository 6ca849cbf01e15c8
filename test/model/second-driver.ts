/** Another driver of the same node, with pools of its own in the same state folder. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { volumeIdFor } from '../../src/volumes/ids.ts';
import type { OpenedVolumes } from '../../src/volumes/open.ts';
import { call, volumeInput } from '../helpers/scratch-node.ts';
import type { Subject } from './subject.ts';

export class SecondDriver {
  readonly #subject: Subject;
  #opened: OpenedVolumes | undefined;
  #starts = 0;
  /** What the state folder must not lose. */
  readonly #directories = new Set<string>();
  readonly #known = new Set<string>();

  constructor(subject: Subject) {
    this.#subject = subject;
  }

  /** Starts with one of two pools and makes a volume there once, or ends. */
  async toggle(): Promise<void> {
    if (this.#opened !== undefined) return this.end();
    const name = this.#starts % 2 === 0 ? 'left' : 'right';
    this.#starts += 1;
    this.#opened = await this.#subject.openBeside(name);
    this.#directories.add(join(this.#subject.directory, name));
    const volume = `of-${name}`;
    await this.#opened.docker.create(call(), volumeInput(volume));
    this.#known.add(volumeIdFor(volume, this.#opened.domain.settings.nodeTag));
  }

  async end(): Promise<void> {
    await this.#opened?.close(2_000);
    this.#opened = undefined;
  }

  /** What one of the drivers has forgotten. */
  async missing(): Promise<string | undefined> {
    if (this.#starts === 0) return undefined;
    const state = join(this.#subject.directory, 'state');
    const pools = await readFile(join(state, 'pools.json'), 'utf8');
    const own = join(this.#subject.directory, 'pool');
    const pool = [own, ...this.#directories].find((path) => !pools.includes(JSON.stringify(path)));
    if (pool !== undefined) return `the pool at ${pool} is forgotten`;
    const notes = await readdir(join(state, 'known-volumes'));
    const volume = [...this.#known].find((id) => !notes.includes(id));
    return volume === undefined ? undefined : `the volume ${volume} is forgotten`;
  }
}
