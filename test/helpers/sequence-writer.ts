/**
 * Separate process: sequence-writer FILE FILE... Writes 1 to each file in turn, then 2 to each, and so on, and syncs each write before the
 * next one. So at any moment no file has a number that is smaller than that of the file after it, or larger by more than 1. Each number
 * is written over the one before it, behind `mark`. Like a pod it blocks while a filesystem is frozen.
 */
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';

/** Precedes the number, so that a test finds its place in an image. */
export const mark = Buffer.from('the number of the sequence writer');
export const blockBytes = 4096;

const files = process.argv.slice(2);
if (files.length > 0) {
  const open = files.map((file) => openSync(file, 'w'));
  const block = Buffer.alloc(blockBytes);
  mark.copy(block);
  process.on('SIGTERM', () => {
    for (const fd of open) closeSync(fd);
    process.exit(0);
  });
  const next = (number: bigint): void => {
    block.writeBigUInt64BE(number, mark.length);
    for (const fd of open) {
      writeSync(fd, block, 0, block.length, 0);
      fsyncSync(fd);
    }
    // Lets a signal be handled.
    setImmediate(next, number + 1n);
  };
  next(1n);
}
