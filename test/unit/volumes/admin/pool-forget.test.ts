import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';

const tell = { name: 'a', path: '', uuid: '' };
const noCreate = { create: false };

test('a lost pool is forgotten by its uuid, and a new pool is made in its directory', async (t) => {
  const node = await fakeNode(t);
  const a = node.settings('a');
  const before = await node.open([a]);
  await before.docker.create(call(), volumeInput('v'));
  const { uuid = '' } = before.domain.pools.all[0]?.marker ?? {};
  t.is(await reasonOf(before.administration.forgetPool(tell)), 'wrong-state', 'served');
  await before.close(100);
  await rename(a.path, `${a.path}-away`);
  await mkdir(a.path);
  const { administration, domain, ...opened } = await node.open([node.settings('a', noCreate)]);
  const init = { name: 'a', path: '', embeddedBytes: undefined, force: false };
  await t.throwsAsync(administration.initPool(init), {
    message: /its disk is not mounted; mount it; .*loopcsi pool forget a'/,
  });
  const found = await administration.forgetPool(tell);
  t.is(found.uuid, uuid);
  t.is(found.volumeIds.length, 1);
  t.is(await reasonOf(administration.initPool(init)), 'unavailable', 'nothing was forgotten yet');
  const wrong = { ...tell, uuid: 'another' };
  t.is(await reasonOf(administration.forgetPool(wrong)), 'conflict');
  await administration.forgetPool({ ...tell, uuid });
  t.is(await reasonOf(administration.forgetPool(tell)), 'not-found');
  t.is((await administration.initPool(init)).pool.problem, undefined);
  t.not(domain.pools.all[0]?.marker?.uuid, uuid);
  t.deepEqual(await readdir(join(node.directory, 'state', 'known-volumes')), []);
  t.is((await opened.volumes.createVolume(call(), volumeInput('v'))).pool, 'a');
});

test('a pool that exists or has an attached image is not forgotten', async (t) => {
  const node = await fakeNode(t);
  const a = node.settings('a');
  const before = await node.open([a]);
  const { record } = await before.volumes.createVolume(call(), volumeInput('v'));
  await before.close(100);
  const image = join(a.path, 'volumes', record.id, 'disk.img');
  const marker = join(a.path, 'pool.json');
  const foreign = (await readFile(marker, 'utf8')).replace(record.id.slice(-8), '0123abcd');
  await writeFile(marker, foreign);
  const { administration } = await node.open([a]);
  await t.throwsAsync(administration.forgetPool(tell), {
    message: /only a lost pool/,
  });
  await rm(marker);
  const options = { sectorSize: 4096, readOnly: false, directIo: true, discard: true } as const;
  const device = await node.host.loops.attach(image, { ...options, label: record.id });
  await t.throwsAsync(administration.forgetPool(tell), { message: /losetup -d/ });
  await node.host.loops.detach(device);
  t.is(await reasonOf(administration.forgetPool(tell)), 'ok');
});

test('a lost pool.json is written again with the uuid that this node saw, and the pool is served', async (t) => {
  const node = await fakeNode(t);
  const a = node.settings('a');
  const before = await node.open([a]);
  const { record } = await before.volumes.createVolume(call(), volumeInput('v'));
  const { uuid } = before.domain.pools.all[0]?.marker ?? {};
  await before.close(100);
  await rm(join(a.path, 'pool.json'));
  const { administration, domain, volumes } = await node.open([a]);
  t.regex(
    domain.pools.all[0]?.problem ?? '',
    /has no pool.json, but it has the records of pool .*pool recover a'/,
  );
  t.is((await administration.recoverPool('a')).problem, undefined);
  t.is(domain.pools.all[0]?.marker?.uuid, uuid);
  t.is((await volumes.getVolume(record.id)).pool, 'a');
});

test('a pool is not recovered from an empty directory, with ids of two nodes, or if it has a marker', async (t) => {
  const node = await fakeNode(t);
  const a = node.settings('a');
  const before = await node.open([a]);
  await before.close(100);
  const marker = join(a.path, 'pool.json');
  const text = await readFile(marker, 'utf8');
  const recover = async (): Promise<string> => {
    const opened = await node.open([a]);
    const reason = await reasonOf(opened.administration.recoverPool('a'));
    await opened.close(100);
    return reason;
  };
  await rm(marker);
  t.is(await recover(), 'wrong-state', 'no records');
  for (const id of ['x.0123abcd', 'y.4567cdef']) await mkdir(join(a.path, 'volumes', id));
  t.is(await recover(), 'wrong-state', 'two nodes');
  t.false((await readdir(a.path)).includes('pool.json'));
  await writeFile(marker, text.replace(/"nodeTag": "[0-9a-f]{8}"/, '"nodeTag": "0123abcd"'));
  t.is(await recover(), 'wrong-state', 'a marker');
});
