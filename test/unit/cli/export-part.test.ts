import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import {
  openPart,
  partOf,
  readProgress,
  recordProgress,
  writeAll,
} from '../../../src/cli/export-part.ts';

test('a new export forgets the progress of an earlier one before it empties the file', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-export-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const path = join(directory, 'image');
  const progress = { kind: 'volume', id: 'v', state: 'a', doneBytes: 4n } as const;
  await writeFile(partOf(path), 'data');
  await recordProgress(path, progress);
  t.deepEqual(await readProgress(path), progress);

  const continued = await openPart(path, { isContinued: true });
  await continued.close();
  t.is(await readFile(partOf(path), 'utf8'), 'data');
  t.deepEqual(await readProgress(path), progress);

  // A kill here leaves nothing that --resume could continue with zeros.
  const anew = await openPart(path, { isContinued: false });
  await anew.close();
  t.is(await readFile(partOf(path), 'utf8'), '');
  t.is(await readProgress(path), undefined);
});

test('a write that the kernel shortens is continued until all bytes are in the file', async (t) => {
  const file = Buffer.alloc(16);
  const short = async (bytes: Uint8Array, from: number, length: number, position: number) => {
    const bytesWritten = Math.min(length, 3);
    file.set(bytes.subarray(from, from + bytesWritten), position);
    return { bytesWritten, buffer: bytes };
  };
  await writeAll({ write: short as never }, Buffer.from('0123456789'), 4n);
  t.is(file.toString('latin1').replaceAll('\0', '.'), '....0123456789..');
});

test('a disk that becomes full during a write fails the export', async (t) => {
  const answers = [2];
  const full = async (bytes: Uint8Array) => {
    const bytesWritten = answers.shift();
    if (bytesWritten === undefined) throw new Error('ENOSPC');
    return { bytesWritten, buffer: bytes };
  };
  await t.throwsAsync(writeAll({ write: full as never }, Buffer.from('0123'), 0n), {
    message: 'ENOSPC',
  });
});
