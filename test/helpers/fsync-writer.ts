/**
 * Started as a process of its own: fsync-writer FILE CHUNKS [WRITES [PAUSE]]. Writes chunks of 4 MiB whose every word tells its number, each
 * with fsync, and says the number of each that was acknowledged. Blocks, as a pod does, while the filesystem is frozen. With more
 * WRITES than CHUNKS it begins again at the start of the file, over what is there. It pauses PAUSE milliseconds after each, so that a
 * slow machine has time for others.
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
