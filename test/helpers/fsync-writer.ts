/**
 * Separate process: fsync-writer FILE CHUNKS [WRITES [PAUSE]]. Writes chunks of 4 MiB filled with their number, syncs each, and
 * prints the number of each chunk whose fsync succeeded. Like a pod it blocks while the filesystem is frozen. If WRITES exceeds
 * CHUNKS, it overwrites the file from its start. It pauses PAUSE milliseconds after each chunk, so that other processes make
 * progress on a slow machine.
 */
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';

export const chunkBytes = 4 * 1024 * 1024;

/** The content of chunk `number`. */
export function chunkOf(number: number): Buffer {
  const chunk = Buffer.alloc(chunkBytes);
  new Uint32Array(chunk.buffer, chunk.byteOffset, chunkBytes / 4).fill(number + 1);
  return chunk;
}

const [file, chunks, writes = chunks, pause = '0'] = process.argv.slice(2);
if (file !== undefined && chunks !== undefined) {
  const idle = new Int32Array(new SharedArrayBuffer(4));
  const fd = openSync(file, 'w');
  for (let number = 0; number < Number(writes); number += 1) {
    writeSync(fd, chunkOf(number), 0, chunkBytes, (number % Number(chunks)) * chunkBytes);
    fsyncSync(fd);
    writeSync(1, `${number}\n`);
    Atomics.wait(idle, 0, 0, Number(pause));
  }
  closeSync(fd);
}
