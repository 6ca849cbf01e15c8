import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { chunkBytes, chunkOf } from '../../helpers/fsync-writer.ts';
import { until } from '../../helpers/until.ts';
import { Lines } from '../machine/console.ts';

const program = join(import.meta.dirname, '..', '..', 'helpers', 'fsync-writer.js');

/** More writes than any test has time for. */
const endless = 1_000_000;

/** Without a pause the writer would leave the driver no processor time to start under emulation. */
const pauseMs = 200;

/** A process that writes a file of `chunks` chunks over and over, each write with fsync, until it is stopped. */
export class RingWriter {
  readonly #file: string;
  readonly #chunks: number;
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  #last = -1;

  constructor(file: string, chunks: number) {
    this.#file = file;
    this.#chunks = chunks;
    const args = [program, file, String(chunks), String(endless), String(pauseMs)];
    this.#process = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#ended = once(this.#process, 'exit');
    const lines = new Lines((line) => {
      this.#last = Number(line);
    });
    this.#process.stdout?.setEncoding('utf8').on('data', (text) => lines.add(String(text)));
  }

  /** Waits until so many more writes were acknowledged. */
  async waitForWrites(writes: number): Promise<void> {
    const wanted = this.#last + writes;
    await until(`${this.#file} was written ${writes} times more`, () => {
      this.#requireRuns();
      return this.#last >= wanted;
    });
  }

  #requireRuns(): void {
    const { exitCode } = this.#process;
    if (exitCode !== null) throw new Error(`the writer of ${this.#file} ended with ${exitCode}`);
  }

  /** Kills the process; does nothing if it has already ended. */
  async stop(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#ended;
  }

  /** Call it after `stop`. Throws unless every chunk has its last acknowledged content. Returns the number of chunks checked. */
  async requireIntact(): Promise<number> {
    const handle = await open(this.#file);
    const found = Buffer.alloc(chunkBytes);
    // The write that was interrupted was not acknowledged, and its chunk may have parts of both writes, so it is not checked.
    const first = Math.max(0, this.#last + 2 - this.#chunks);
    try {
      for (let number = first; number <= this.#last; number += 1) {
        const at = (number % this.#chunks) * chunkBytes;
        await handle.read(found, 0, chunkBytes, at);
        if (!found.equals(chunkOf(number))) {
          throw new Error(`${this.#file}: write ${number}, at byte ${at}, is missing`);
        }
      }
    } finally {
      await handle.close();
    }
    return this.#last - first + 1;
  }
}
