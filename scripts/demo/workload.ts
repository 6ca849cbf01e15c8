/** Writes data to volumes, even while they fill up or grow, and verifies it. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const MiB = 1024 * 1024;

export interface WrittenFiles {
  readonly count: number;
  readonly bytes: number;
  /** Throws, naming the first file that differs. `directory` is by default the one that was written to. */
  verify(directory?: string): Promise<void>;
}

/** Writes and syncs files of random bytes, and remembers their hashes. */
export async function writeFiles(directory: string, count: number): Promise<WrittenFiles> {
  const hashes = new Map<string, string>();
  let bytes = 0;
  await mkdir(join(directory, 'files'), { recursive: true });
  for (let i = 0; i < count; i += 1) {
    const content = randomBytes(1 + ((i * 7919) % (256 * 1024)));
    const name = join('files', `file-${i}`);
    await writeFile(join(directory, name), content, { flush: true });
    hashes.set(name, hashOf(content));
    bytes += content.length;
  }
  return {
    count,
    bytes,
    verify: async (target = directory) => {
      for (const [name, hash] of hashes) {
        const path = join(target, name);
        if (hashOf(await readFile(path)) !== hash)
          throw new Error(`${path} does not contain the data that was written`);
      }
    },
  };
}

function hashOf(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

/** Writes to a file until ENOSPC, and returns the number of bytes written. */
export async function fill(path: string, signal: AbortSignal): Promise<number> {
  const chunk = randomBytes(MiB);
  const file = await open(path, 'w');
  let bytes = 0;
  try {
    for (;;) {
      signal.throwIfAborted();
      bytes += (await file.write(chunk)).bytesWritten;
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOSPC') return bytes;
    throw error;
  } finally {
    await file.close();
  }
}

/** Writes to the start of a block device, and verifies the data. */
export async function writeDevice(path: string, megabytes: number): Promise<void> {
  const content = randomBytes(megabytes * MiB);
  const file = await open(path, 'r+');
  try {
    await file.write(content, 0, content.length, 0);
    await file.datasync();
    const back = Buffer.alloc(content.length);
    await file.read(back, 0, back.length, 0);
    if (!back.equals(content))
      throw new Error(`${path} does not contain the data that was written`);
  } finally {
    await file.close();
  }
}

/** Appends numbered blocks to one open file, syncing each, until it is stopped. */
export class Writer {
  readonly #path: string;
  #stopped = false;
  #blocks = 0;
  #failure: Error | undefined;
  #work: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  get blocks(): number {
    return this.#blocks;
  }

  start(): void {
    this.#work = this.#write().catch((error: unknown) => {
      this.#failure = error instanceof Error ? error : new Error(String(error));
    });
  }

  /** Waits until `blocks` more blocks are synced, which proves that writes still work. Throws the error of a failed write. */
  async advance(blocks: number): Promise<void> {
    const target = this.#blocks + blocks;
    while (this.#blocks < target && this.#failure === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Stops, verifies all blocks and returns their number. */
  async finish(): Promise<number> {
    await this.stop();
    if (this.#failure !== undefined) throw this.#failure;
    const content = await readFile(this.#path);
    for (let i = 0; i < this.#blocks; i += 1) {
      if (content.readUInt32BE(i * 4096) !== i) throw new Error(`block ${i} was lost`);
    }
    return this.#blocks;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#work;
  }

  async #write(): Promise<void> {
    const block = Buffer.alloc(4096);
    const file = await open(this.#path, 'w');
    try {
      while (!this.#stopped) {
        block.writeUInt32BE(this.#blocks);
        await file.write(block);
        await file.datasync();
        this.#blocks += 1;
      }
    } finally {
      await file.close();
    }
  }
}
