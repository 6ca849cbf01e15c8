import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { makeCopies } from '../../../src/host/copy.ts';
import { DiskState } from '../../helpers/disk-state.ts';

test('a copy that has ended is on the disk', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-test-'));
  const disk = await DiskState.watch();
  try {
    const [from, to] = [join(directory, 'from'), join(directory, 'to')];
    const file = await open(from, 'w');
    await file.truncate(1 << 20);
    await file.write(Buffer.alloc(4096, 1), 0, 4096, 1 << 16);
    await file.close();
    await makeCopies().copySparse(from, to, { signal: new AbortController().signal });
    t.true(disk.isSynced(to));
  } finally {
    disk.end();
    await rm(directory, { recursive: true });
  }
});
