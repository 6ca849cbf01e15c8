import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import {
  compareFiles,
  differingBlocks,
  maxComparedBytes,
} from '../../../../src/host/files/compare-blocks.ts';
import { driverLane } from '../../../../src/host/lane.ts';

test('ranges of different blocks are found, and adjacent ranges are joined', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 40 * 64 - 1 }), { maxLength: 30 }),
      fc.integer({ min: 1, max: 40 * 64 }),
      (places, size) => {
        const a = Buffer.alloc(size);
        const b = Buffer.alloc(size);
        for (const place of places) if (place < size) b[place] = 1;
        const wanted = new Set(
          places.filter((one) => one < size).map((one) => Math.floor(one / 64)),
        );
        const found = new Set<number>();
        let before = -1n;
        for (const { offset, length } of differingBlocks(a, b, { offset: 640n, blockBytes: 64n })) {
          if (offset <= before) return false;
          before = offset + length;
          for (let at = offset; at < before; at += 64n) found.add(Number((at - 640n) / 64n));
        }
        return found.size === wanted.size && [...wanted].every((block) => found.has(block));
      },
    ),
  );
  t.pass();
});

test('bytes after the end of a file are zeroes, and a range that is too large is refused', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-compare-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const [short, long] = [join(directory, 'short'), join(directory, 'long')];
  await writeFile(short, Buffer.alloc(100, 7));
  await writeFile(
    long,
    Buffer.concat([Buffer.alloc(100, 7), Buffer.alloc(8092), Buffer.alloc(8, 1)]),
  );
  const range = { offset: 0n, length: 16_384n, blockBytes: 4096n };
  t.deepEqual(await compareFiles(driverLane, short, long, range), [
    { offset: 8192n, length: 4096n },
  ]);
  t.deepEqual(await compareFiles(driverLane, short, short, range), []);
  const tooLarge = { ...range, length: maxComparedBytes + 1n };
  t.like(await t.throwsAsync(compareFiles(driverLane, short, long, tooLarge)), { errno: 'E2BIG' });
});
