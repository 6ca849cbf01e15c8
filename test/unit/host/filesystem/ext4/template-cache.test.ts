import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Ext4Templates } from '../../../../../src/host/filesystem/ext4/template-cache.ts';
import { driverLane } from '../../../../../src/host/lane.ts';
import { MiB } from '../../../../../src/units.ts';

/** Bytes that this process has read, from files and from procfs. */
async function bytesRead(): Promise<number> {
  return Number(/^rchar: (\d+)$/m.exec(await readFile('/proc/self/io', 'utf8'))?.[1]);
}

test('an image that reports only data, as without SEEK_HOLE, is not read', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-templates-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const path = join(directory, 'disk.img');
  const image = await open(path, 'wx');
  const zeroes = Buffer.alloc(Number(MiB));
  for (let at = 0; at < 96; at += 1)
    await image.write(zeroes, 0, zeroes.length, at * zeroes.length);
  await image.close();
  const templates = new Ext4Templates();
  const before = await bytesRead();
  await templates.store(driverLane, 'key', path, '6a4f0a3e-0000-4000-8000-000000000000');
  t.true((await bytesRead()) - before < Number(MiB));
  t.is(templates.find('key'), undefined);
});
