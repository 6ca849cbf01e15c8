/** The acknowledgements that a load received, on a disk that survives the power cut of its machine. */
import { type FileHandle, open, readFile } from 'node:fs/promises';
import * as v from 'valibot';
import type { Fact, Journal } from '../../crash/load.ts';

const factShape = v.object({
  name: v.string(),
  kind: v.picklist(['ext4', 'xfs', 'btrfs', 'block']),
  version: v.number(),
  exists: v.picklist(['yes', 'no', 'unknown']),
  text: v.optional(v.string()),
  snapshots: v.array(v.string()),
});
const noteShape = v.union([v.object({ begins: v.string() }), v.object({ ends: factShape })]);

/** Writes one line for each fact, and makes it durable before the next step of the load. */
export class FactJournal implements Journal {
  readonly #file: FileHandle;
  #last: Promise<void> = Promise.resolve();

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Makes an empty journal; an existing file is truncated. */
  static async make(path: string): Promise<FactJournal> {
    const file = await open(path, 'w');
    await file.sync();
    return new FactJournal(file);
  }

  begins(name: string): Promise<void> {
    return this.#note({ begins: name });
  }

  ends(fact: Fact): Promise<void> {
    return this.#note({ ends: fact });
  }

  /** Serialised: concurrent writes could mix their lines. */
  #note(note: unknown): Promise<void> {
    this.#last = this.#last.then(async () => {
      await this.#file.appendFile(`${JSON.stringify(note)}\n`);
      await this.#file.datasync();
    });
    return this.#last;
  }
}

/** The facts that were certain when the journal ended. A volume with an unfinished step has none; nor has a missing journal. */
export async function certainFacts(path: string): Promise<readonly Fact[]> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return '';
  });
  const facts = new Map<string, Fact>();
  // Text after the last line break was still being written.
  for (const line of text.split('\n').slice(0, -1)) {
    const note = v.parse(noteShape, JSON.parse(line));
    if ('begins' in note) facts.delete(note.begins);
    else facts.set(note.ends.name, { ...note.ends, text: note.ends.text });
  }
  return [...facts.values()];
}
