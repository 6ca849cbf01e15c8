import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { makeCopies } from '../../../../src/host/files/copy.ts';
import { driverLane } from '../../../../src/host/lane.ts';
import { DiskState } from '../../../helpers/disk-state.ts';

const { signal } = new AbortController();
const disk = await DiskState.watch();
test.after.always(() => {
  disk.end();
});

/** A file of this many MiB with data at its start, and the path of its copy. */
async function fileOf(t: ExecutionContext, { size, data }: { size: number; data: number }) {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-test-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const [from, to] = [join(directory, 'from'), join(directory, 'to')];
  const file = await open(from, 'w');
  await file.truncate(size << 20);
  await file.write(Buffer.alloc(data << 20, 1), 0, data << 20, 0);
  await file.close();
  return { from, to };
}

test('a finished copy is durable', async (t) => {
  const { from, to } = await fileOf(t, { size: 2, data: 1 });
  await makeCopies(driverLane).copySparse(from, to, { signal });
  t.true(disk.isSynced(to));
});

test('reported progress is durable', async (t) => {
  const { from, to } = await fileOf(t, { size: 80, data: 80 });
  const told: boolean[] = [];
  await makeCopies(driverLane).copySparse(from, to, {
    signal,
    onProgress: () => {
      told.push(disk.isSynced(to));
    },
  });
  t.deepEqual(told, [true, true], 'during the copy, and at its end');
});

test('a resumed copy discards everything after the resume point', async (t) => {
  const { from, to } = await fileOf(t, { size: 3, data: 2 });
  const half = await open(to, 'w');
  await half.write(Buffer.alloc(3 << 20, 7));
  await half.close();
  await makeCopies(driverLane).copySparse(from, to, { signal, resumeFrom: BigInt(1 << 20) });
  const copy = await readFile(to);
  t.is(copy[0], 7, 'everything before the resume point is kept');
  t.true(copy.subarray(1 << 20).equals((await readFile(from)).subarray(1 << 20)));
});
