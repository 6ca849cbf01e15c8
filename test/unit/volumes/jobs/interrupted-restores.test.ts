import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { InterruptedRestores } from '../../../../src/volumes/jobs/interrupted-restores.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { aSnapshotId, aVolumeId } from '../../../helpers/ids.ts';
import { until } from '../../../helpers/until.ts';

const volumeId = aVolumeId('v.00000000');
const source = { snapshotId: aSnapshotId('s.00000000'), createdAtMs: 1, inode: '1:2' };
const progress = { schemaVersion: 1, volumeId, source, doneBytes: '4096' };

test('an interrupted copy that no call resumes is removed after a while', async (t) => {
  const node = await fakeNode(t);
  const { domain } = await node.open([node.settings('a')]);
  const pool = domain.pools.named('a');
  const entry = join(node.directory, 'a', 'tmp', 'left');
  await mkdir(entry);
  await writeFile(join(entry, 'disk.img'), 'bytes');
  await writeFile(join(entry, 'restore.json'), JSON.stringify(progress));
  const restores = new InterruptedRestores(domain, 50);
  t.true(await restores.keep(node.host, pool, 'left'));
  t.is(restores.find(volumeId, { pool, source })?.doneBytes, 4096n);
  for (const other of [
    { ...source, snapshotId: aSnapshotId('t.00000000') },
    { ...source, createdAtMs: 2 },
    { ...source, inode: '1:3' },
  ]) {
    t.is(restores.find(volumeId, { pool, source: other }), undefined, 'another source');
  }
  await until(
    'it was removed',
    async () => (await readdir(join(node.directory, 'a', 'tmp'))).length === 0,
    20_000,
  );
  t.is(restores.find(volumeId, { pool, source }), undefined);
});

test('an entry without copy progress, or with unreadable progress, is not kept', async (t) => {
  const node = await fakeNode(t);
  const { domain } = await node.open([node.settings('a')]);
  const pool = domain.pools.named('a');
  for (const [name, text] of [
    ['none', undefined],
    ['torn', '{"schemaVersion": 1, "vol'],
  ] as const) {
    const entry = join(node.directory, 'a', 'tmp', name);
    await mkdir(entry);
    if (text !== undefined) await writeFile(join(entry, 'restore.json'), text);
    t.false(await domain.interruptedRestores.keep(node.host, pool, name), name);
  }
});
