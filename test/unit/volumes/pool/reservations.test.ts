import { open } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { volumeIdFor } from '../../../../src/ids.ts';
import { GiB, MiB } from '../../../../src/units.ts';
import type { FaultPoint } from '../../../../src/volumes/engine/fault-points.ts';
import type { PoolSettings } from '../../../../src/volumes/pool/settings.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

const sizeBytes = 64n * MiB;
const snapshotOf = (sourceVolumeId: string, name = 's') => ({
  name,
  sourceVolumeId,
  settings: { freeze: false },
  parameters: {},
});

/** A pool of a size that the test chooses, inspected during calls. */
async function pooledNode(
  t: ExecutionContext,
  options: {
    reflink?: boolean;
    totalBytes?: bigint;
    freeInodes?: bigint;
    pool?: Partial<PoolSettings>;
  } = {},
) {
  const { reflink = false, totalBytes = 16n * GiB, freeInodes } = options;
  const node = await fakeNode(t, { reflink });
  const { files } = node.host;
  const capacity = files.capacity.bind(files);
  files.capacity = async (path) => {
    const real = await capacity(path);
    const inodes = freeInodes === undefined ? {} : { totalInodes: 1000n, freeInodes };
    return { ...real, totalBytes, freeBytes: totalBytes, ...inodes };
  };
  let at: FaultPoint | undefined;
  let look = async (): Promise<void> => undefined;
  const opened = await node.open(
    [node.settings('a', { reserve: { bytes: 0n }, ...options.pool })],
    {
      reached: async (point) => {
        if (point === at) await look();
      },
    },
  );
  const { volumes, domain } = opened;
  const pool = domain.pools.named('a');
  const imageOf = (id: string) => join(node.directory, 'a', 'volumes', id, 'disk.img');
  return {
    node,
    volumes,
    domain,
    pool,
    imageOf,
    inFlight: async () => (await pool.space.facts()).inFlightBytes,
    /** The bytes in flight at that fault point of `work`, and afterwards. */
    during: async (point: FaultPoint, work: () => Promise<unknown>): Promise<[bigint, bigint]> => {
      let seen = -1n;
      at = point;
      look = async () => {
        seen = (await pool.space.facts()).inFlightBytes;
      };
      await work();
      at = undefined;
      return [seen, (await pool.space.facts()).inFlightBytes];
    },
    make: async (name: string, more: Parameters<typeof volumeInput>[1] = {}) => {
      const input = volumeInput(name, { kind: 'block', sizeBytes, ...more });
      return (await volumes.createVolume(call(), input)).record.id;
    },
  };
}

async function fill(path: string, bytes: bigint, from = 0n): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(Buffer.alloc(Number(bytes), 1), 0, Number(bytes), Number(from));
  await file.sync();
  await file.close();
}

test('a call reserves the bytes that it will need, and releases them at its end', async (t) => {
  const { during, volumes, make, imageOf } = await pooledNode(t);
  t.deepEqual(await during('new:image-made', () => make('v')), [sizeBytes, 0n], 'create');
  const volumeId = await make('w');
  const range = { requiredBytes: 3n * sizeBytes, limitBytes: 0n };
  const grown = await during('expand:promised', () =>
    volumes.expandVolume(call(), { volumeId, range }),
  );
  t.deepEqual(grown, [2n * sizeBytes, 0n], 'expand');
  await fill(imageOf(volumeId), 8n * MiB);
  const cut = await during('capture:taken', () =>
    volumes.createSnapshot(call(), snapshotOf(volumeId)),
  );
  t.true(cut[0] >= 8n * MiB, `snapshot: what its source has, ${cut[0]}`);
  t.is(cut[1], 0n);
  const { record } = await volumes.createSnapshot(call(), snapshotOf(volumeId));
  const source = { kind: 'snapshot', id: record.id } as const;
  const restored = await during('restore:taken', () => make('r', { source, sizeBytes: 0n }));
  t.deepEqual(restored, [3n * sizeBytes, 0n], 'restore');
});

test('a call that fails releases its reservation', async (t) => {
  const { node, volumes, make, inFlight } = await pooledNode(t);
  const volumeId = await make('v');
  const { record } = await volumes.createSnapshot(call(), snapshotOf(volumeId));
  const range = { requiredBytes: 3n * sizeBytes, limitBytes: 0n };
  const failing = [
    ['files.createImage', () => make('w')],
    ['files.growImage', () => volumes.expandVolume(call(), { volumeId, range })],
    ['copies.copySparse', () => volumes.createSnapshot(call(), snapshotOf(volumeId, 't'))],
    ['copies.copySparse', () => make('r', { source: { kind: 'snapshot', id: record.id } })],
  ] as const;
  for (const [name, work] of failing) {
    node.host.failNext(name, new Error('a test'));
    t.not(await reasonOf(work()), 'ok', name);
    t.is(await inFlight(), 0n, name);
  }
});

test('concurrent calls never count the same free bytes', async (t) => {
  const { node, make } = await pooledNode(t, { totalBytes: 3n * sizeBytes });
  const { files } = node.host;
  const capacity = files.capacity.bind(files);
  // Concurrent callers get their answers at the same time.
  let answers: Promise<void> | undefined;
  files.capacity = async (path) => {
    answers ??= new Promise((resolve) => {
      setTimeout(() => {
        answers = undefined;
        resolve();
      }, 20);
    });
    const found = await capacity(path);
    await answers;
    return found;
  };
  const names = ['a', 'b', 'c', 'd', 'e'];
  const reasons = await Promise.all(names.map((name) => reasonOf(make(name))));
  t.deepEqual(reasons.sort(), ['no-space', 'no-space', 'ok', 'ok', 'ok']);
});

test('a growth needs capacity for the bytes that it adds', async (t) => {
  const { make, volumes } = await pooledNode(t, { totalBytes: 3n * sizeBytes });
  const volumeId = await make('v');
  await make('w');
  const expand = (factor: bigint) =>
    volumes.expandVolume(call(), {
      volumeId,
      range: { requiredBytes: factor * sizeBytes, limitBytes: 0n },
    });
  t.is(await reasonOf(expand(3n)), 'no-space');
  t.is(await reasonOf(expand(2n)), 'ok');
});

test('concurrent creates of thick volumes need free blocks for all of them, whatever is promised', async (t) => {
  const { node, make } = await pooledNode(t, {
    pool: { overcommitPerMille: 4000, guard: false },
  });
  const settings = { ...plainSettings, provisioning: 'thick' } as const;
  const { files } = node.host;
  // While the calls run, no block is allocated yet.
  const capacity = files.capacity.bind(files);
  const freeBytes = 3n * sizeBytes;
  files.capacity = async (path) => ({ ...(await capacity(path)), freeBytes });
  const names = ['a', 'b', 'c', 'd', 'e'];
  const reasons = await Promise.all(names.map((name) => reasonOf(make(name, { settings }))));
  t.is(reasons.filter((reason) => reason === 'ok').length, 3, reasons.join(' '));
});

test('inodes are kept free for running operations', async (t) => {
  const { make } = await pooledNode(t, { freeInodes: 63n });
  const error = await t.throwsAsync(make('v'));
  t.like(error, { reason: 'no-space' });
  t.regex(error?.message ?? '', /63 free inodes/);
});

for (const reflink of [false, true]) {
  const what = reflink ? 'shared blocks' : 'copies';
  test(`a deleted entry counts until its blocks are free (${what})`, async (t) => {
    const { node, make, volumes, domain, pool, imageOf } = await pooledNode(t, { reflink });
    const id = await make('v');
    await fill(imageOf(id), 8n * MiB);
    const { files } = node.host;
    const remove = files.removeInSlices.bind(files);
    let resume = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      resume = resolve;
    });
    // Also if the test fails, because the shutdown waits for blocks that are being freed.
    t.teardown(() => {
      resume();
    });
    files.removeInSlices = async (path, slices) => {
      await held;
      await remove(path, slices);
    };
    await volumes.deleteVolume(call(), id);
    const { trashBytes, outstandingBytes } = await pool.space.facts();
    t.true(trashBytes >= 8n * MiB);
    // A volume may share the blocks, and then needs new ones for a rewrite.
    t.is(outstandingBytes, reflink ? trashBytes : 0n);
    resume();
    await domain.trash.whenIdle();
    t.like(await pool.space.facts(), { trashBytes: 0n, outstandingBytes: 0n });
  });
}

test('a clone that shares blocks makes them count for its source again', async (t) => {
  const { during, make, imageOf, pool } = await pooledNode(t, { reflink: true });
  const id = await make('v');
  await fill(imageOf(id), 8n * MiB);
  const [inFlight] = await during('restore:taken', () =>
    make('clone', { source: { kind: 'volume', id } }),
  );
  t.true(inFlight >= sizeBytes + 8n * MiB, String(inFlight));
  // All blocks are shared, and both volumes may be rewritten completely.
  t.is((await pool.space.facts()).outstandingBytes, 2n * sizeBytes);
});

test('blocks that a source gets while its capture is prepared count too', async (t) => {
  const { node, volumes, make, imageOf, pool } = await pooledNode(t);
  const id = await make('v');
  const { copies } = node.host;
  const copySparse = copies.copySparse.bind(copies);
  copies.copySparse = async (from, to, options) => {
    await fill(imageOf(id), 8n * MiB);
    await copySparse(from, to, options);
  };
  let seen = 0n;
  const { files } = node.host;
  const sync = files.sync.bind(files);
  files.sync = async (path) => {
    if (path.endsWith('disk.img')) seen = (await pool.space.facts()).inFlightBytes;
    await sync(path);
  };
  await volumes.createSnapshot(call(), snapshotOf(id));
  t.true(seen >= 8n * MiB, String(seen));
});

test('a running copy counts with all bytes that it will allocate', async (t) => {
  const { make, volumes, pool } = await pooledNode(t);
  const id = await make('v');
  const { record } = await volumes.createSnapshot(call(), snapshotOf(id));
  const before = await pool.space.facts();
  const copy = { allocatedBytes: 40n * MiB, sourceModifiedNs: '1' };
  pool.snapshots.put({ ...record, state: 'copying', copy });
  pool.space.invalidate();
  const after = await pool.space.facts();
  t.is(after.snapshotBytes - before.snapshotBytes, 40n * MiB);
  t.is(after.outstandingBytes - before.outstandingBytes, 40n * MiB);
  pool.snapshots.put(record);
});

test('newly shared blocks count at once, although measurements are cached', async (t) => {
  const { volumes, make, imageOf, pool } = await pooledNode(t, { reflink: true });
  const id = await make('v');
  await fill(imageOf(id), 8n * MiB);
  // A measurement is kept for a time that grows with the number of images. These images are cheap.
  const { record } = await volumes.getVolume(id);
  for (let index = 0; index < 1_000; index += 1) {
    pool.volumes.put({ ...record, id: volumeIdFor(`many-${index}`, '00000000'), sizeBytes: 0n });
  }
  pool.space.invalidate();
  const before = (await pool.space.facts()).outstandingBytes;
  t.true(before < sizeBytes, 'written blocks are not shared');
  await make('clone', { source: { kind: 'volume', id } });
  t.is((await pool.space.facts()).outstandingBytes, 2n * sizeBytes);
});

test('a measurement is cached neither if a change happens during it nor if it fails', async (t) => {
  const { node, volumes, make, pool } = await pooledNode(t);
  const { record } = await volumes.getVolume(await make('v'));
  // A measurement is kept for seconds then.
  for (let index = 0; index < 1_000; index += 1) {
    pool.volumes.put({ ...record, id: volumeIdFor(`many-${index}`, '00000000'), sizeBytes: 0n });
  }
  const { files } = node.host;
  const imageStatus = files.imageStatus.bind(files);
  let looks = 0;
  files.imageStatus = (path) => {
    looks += 1;
    return imageStatus(path);
  };
  pool.space.invalidate();
  const overtaken = pool.space.facts();
  pool.space.invalidate();
  await overtaken;
  const before = looks;
  await pool.space.facts();
  t.true(looks > before);
  const after = looks;
  await pool.space.facts();
  t.is(looks, after, 'this measurement is kept');
  pool.space.invalidate();
  files.imageStatus = (path) => Promise.reject(new KernelError('stat', 'ENOMEM', path));
  await t.throwsAsync(pool.space.facts(), { message: /ENOMEM/ });
  files.imageStatus = imageStatus;
});
