import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type ServiceError, status } from '@grpc/grpc-js';
import type { ExecutionContext } from 'ava';
import { MiB } from '../../src/units.ts';
import { chunkBytes, chunkOf } from '../helpers/fsync-writer.ts';
import { onNode } from '../helpers/on-node.ts';
import { StalledFuse } from '../helpers/stalled-fuse.ts';
import { boundMs, capability, codeOf, TwoPools } from '../helpers/two-pools.ts';
import { until } from '../helpers/until.ts';

const within = { timeoutMs: boundMs };
/** Longer than the driver lets a call wait for its disk. */
const patient = { timeoutMs: 90_000 };
/** More volumes than the driver allows blocking calls at once. */
const many = 60;
const program = join(import.meta.dirname, '..', 'helpers', 'fsync-writer.js');

async function onStalledPool(
  t: ExecutionContext,
  work: (both: TwoPools, fuse: StalledFuse) => Promise<void>,
): Promise<void> {
  t.timeout(6 * 60_000);
  let fuse: StalledFuse | undefined;
  let both: TwoPools | undefined;
  t.teardown(async () => {
    fuse?.resume();
    const left = (await both?.end()) ?? [];
    await fuse?.ended();
    if (left.length > 0) throw new Error(`left over: ${left.join(', ')}`);
  });
  both = await TwoPools.make({
    preparePool: async (directory) => {
      fuse = await StalledFuse.mount(directory);
    },
  });
  if (fuse === undefined) throw new Error('no FUSE filesystem');
  await work(both, fuse);
}

/** Asserts that all calls for the other pool and for the node as a whole are answered within their time limit. */
async function assertOthersWork(t: ExecutionContext, both: TwoPools, name: string): Promise<void> {
  await both.live(name);
  t.true((await both.identity.Probe({}, within)).ready?.value, 'one pool is served');
  for (const path of ['/healthz', '/readyz', '/metrics']) {
    t.is((await both.http(path)).status, 200, path);
  }
}

async function untilTold(both: TwoPools): Promise<void> {
  await until('the hung pool is reported', async () => {
    const { backend_health } = await both.node.NodeGetStorageHealth({}, within);
    return backend_health.some(({ reason }) => reason === 'PoolNotServed');
  });
}

/** Asserts that no list of CSI is silently incomplete while a pool was never read, and that those for operators have what is known. */
async function assertNeverRead(t: ExecutionContext, both: TwoPools, hung: string): Promise<void> {
  const { admin, controller, node } = both;
  const error: unknown = await controller.ListVolumes({}, within).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  const { code, details } = (error ?? {}) as Partial<ServiceError>;
  t.is(code, status.UNAVAILABLE);
  t.regex(details ?? '', /pool 'hung'.*check its disk/);
  t.is(await codeOf(controller.ListSnapshots({}, within)), status.UNAVAILABLE);
  t.is(
    await codeOf(controller.ControllerGetVolume({ volume_id: hung }, within)),
    status.UNAVAILABLE,
  );
  t.is(await codeOf(controller.DeleteVolume({ volume_id: hung }, within)), status.UNAVAILABLE);
  const known = await both.create('known', 'good');
  const { volumes } = await admin.ListVolumes({}, within);
  t.deepEqual(
    volumes.map(({ volume_id }) => volume_id),
    [known],
  );
  await controller.DeleteVolume({ volume_id: known }, within);
  const { backend_health } = await node.NodeGetStorageHealth({}, within);
  t.true(backend_health.some(({ reason }) => reason === 'PoolNotServed'));
}

/** A writer in its own process, which waits in the kernel while the pool hangs and then continues. */
async function startWriter(file: string, chunks: number): Promise<() => Promise<Buffer>> {
  const writer = spawn(process.execPath, [program, file, String(chunks)], { stdio: 'ignore' });
  const ended = once(writer, 'exit');
  await until('the writer has started', async () =>
    stat(file).then(
      ({ size }) => size > 0,
      () => false,
    ),
  );
  return async () => {
    await ended;
    return readFile(file);
  };
}

onNode(
  'a pool that hangs is reported, does not affect other pools, and works again when its disk works',
  async (t) => {
    await onStalledPool(t, async (both, fuse) => {
      const { controller, node } = both;
      const staged = await both.create('staged', 'hung');
      const volume_path = await both.stage(staged);
      const deleted = await both.create('deleted', 'hung');
      const blocks: string[] = [];
      for (let index = 0; index < many; index += 1) {
        blocks.push(await both.createBlock(`block-${index}`, 'hung'));
      }
      const written = await startWriter(join(volume_path, 'written'), 3);
      fuse.stall();
      const capacity_range = { required_bytes: 64n * MiB };
      const changes = [
        codeOf(both.create('new', 'hung', patient.timeoutMs)),
        codeOf(controller.DeleteVolume({ volume_id: deleted }, patient)),
        codeOf(controller.ControllerExpandVolume({ volume_id: staged, capacity_range }, patient)),
      ];
      // Each of these calls reads another image, all at the same time.
      const looks = blocks.map((volume_id) =>
        codeOf(node.NodeGetVolumeStats({ volume_id, volume_path: '/nowhere' }, patient)),
      );
      for (let round = 0; round < 3; round += 1) await assertOthersWork(t, both, `good-${round}`);
      await untilTold(both);
      // From now on calls for that pool are refused at once.
      const request = { volume_id: staged, volume_path };
      t.is(await codeOf(node.NodeGetVolumeStats(request, within)), status.UNAVAILABLE);
      t.is(await codeOf(both.create('another', 'hung')), status.UNAVAILABLE);
      const listed = await controller.ListVolumes({}, within);
      t.true(listed.entries.length > many, 'a pool that was read is listed while it hangs');
      const { volume_health } = await node.NodeGetVolumeHealth({ volume_id: staged }, within);
      t.is(volume_health?.health_statuses[0]?.reason, 'PoolNotServed');
      t.regex((await both.http('/metrics')).text, /loopcsi_pool_served\{pool="hung"\} 0/);
      for (const code of await Promise.all(changes)) {
        t.true([status.ABORTED, status.UNAVAILABLE].includes(code), `bounded, no success: ${code}`);
      }
      for (const code of await Promise.all(looks)) t.not(code, status.DEADLINE_EXCEEDED);
      await assertOthersWork(t, both, 'good-at-last');

      fuse.resume();
      const text = await written();
      for (const chunk of [0, 1, 2]) {
        const at = chunk * chunkBytes;
        t.true(text.subarray(at, at + chunkBytes).equals(chunkOf(chunk)), `chunk ${chunk}`);
      }
      await until(
        'the repeated call succeeds',
        async () => (await codeOf(both.create('new', 'hung'))) === status.OK,
      );
      const fresh = await both.create('new', 'hung');
      await node.NodeUnstageVolume({ volume_id: staged, staging_target_path: volume_path }, within);
      for (const volume_id of [fresh, staged, deleted, ...blocks]) {
        await controller.DeleteVolume({ volume_id }, within);
      }
      t.deepEqual((await controller.ListVolumes({}, within)).entries, []);
    });
  },
);

onNode(
  'calls that query all pools succeed without a pool that has just begun to hang',
  async (t) => {
    await onStalledPool(t, async (both, fuse) => {
      const { admin, controller, node } = both;
      await both.create('beside', 'good');
      // More than the driver reads at the same time.
      for (let index = 0; index < 20; index += 1) await both.createBlock(`block-${index}`, 'hung');
      const unnamed = { capacity_range: { required_bytes: 32n * MiB } };
      const capabilities = { volume_capabilities: [capability] };
      fuse.stall();
      // All at the same time, before the pool is reported as not served.
      const [pools, volumes, health, doctor, capacity, storage, create] = await Promise.all([
        admin.ListPools({}, within),
        admin.ListVolumes({}, within),
        controller.ControllerListVolumeHealth({}, within),
        admin.Doctor({}, within),
        controller.GetCapacity({}, within),
        node.NodeGetStorageHealth({}, within),
        both.controller.CreateVolume({ name: 'unnamed', ...unnamed, ...capabilities }, within).then(
          () => undefined,
          (error: unknown) => error as Partial<ServiceError>,
        ),
      ]);
      const [good, hung] = pools.pools;
      t.like(good, { name: 'good', state: 'SERVED', reason: '' });
      t.like(hung, { name: 'hung', state: 'UNAVAILABLE', total_bytes: 0n });
      t.regex(hung?.reason ?? '', /^pool 'hung'.* has not answered for \d+ s; check its disk$/);
      const well = volumes.volumes.filter(({ problems }) => problems.length === 0);
      t.deepEqual(
        well.map(({ name }) => name),
        ['beside'],
      );
      t.is(volumes.volumes.length, 21);
      t.is(health.entries.length, 20);
      t.true(doctor.checks.some(({ name, state }) => name === 'pool:hung' && state === 'FAIL'));
      t.true(doctor.checks.some(({ name, state }) => name === 'pool:good' && state !== 'FAIL'));
      // Both pools are on the same disk, so the capacity of both would be twice as much.
      const goodBytes = good?.room_bytes ?? 0n;
      t.true(capacity.available_capacity > goodBytes / 2n, `${capacity.available_capacity}`);
      t.true(
        capacity.available_capacity < goodBytes + goodBytes / 2n,
        'only the capacity of the good pool',
      );
      t.deepEqual(
        storage.backend_health.map(({ reason }) => reason),
        ['PoolNotAnswering'],
      );
      t.is(create?.code, status.UNAVAILABLE);
      t.regex(create?.details ?? '', /pool 'hung'.*\(good\): parameter pool/);
      fuse.resume();
      await until(
        'the repeated call succeeds',
        async () =>
          (await codeOf(
            controller.CreateVolume({ name: 'unnamed', ...unnamed, ...capabilities }, within),
          )) === status.OK,
      );
      for (const { volume } of (await controller.ListVolumes({}, within)).entries) {
        await controller.DeleteVolume({ volume_id: volume?.volume_id ?? '' }, within);
      }
    });
  },
);

onNode('a driver stops and starts while a pool hangs', async (t) => {
  await onStalledPool(t, async (both, fuse) => {
    const staged = await both.create('staged', 'hung');
    const staging_target_path = await both.stage(staged);
    fuse.stall();
    const begun = performance.now();
    await both.driver.stop();
    const ms = performance.now() - begun;
    t.true(ms < 45_000, `SIGTERM ends it: ${ms} ms`);
    await both.start();
    await assertOthersWork(t, both, 'good');
    await untilTold(both);
    t.is(await codeOf(both.create('new', 'hung')), status.UNAVAILABLE);
    await assertNeverRead(t, both, staged);
    fuse.resume();
    await until(
      'the pool is served again',
      async () => (await codeOf(both.create('new', 'hung'))) === status.OK,
    );
    const { controller, node } = both;
    await node.NodeUnstageVolume({ volume_id: staged, staging_target_path }, within);
    for (const volume_id of [staged, await both.create('new', 'hung')]) {
      await controller.DeleteVolume({ volume_id }, within);
    }
  });
});
