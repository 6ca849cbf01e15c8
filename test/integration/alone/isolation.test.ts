/**
 * A pool that hangs does not slow others down. Alone: durations are compared with those before the hang, and 150 calls at once would
 * slow other files down.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type ServiceError, status } from '@grpc/grpc-js';
import { execa } from 'execa';
import { MiB } from '../../../src/units.ts';
import { onNode } from '../../helpers/on-node.ts';
import { boundMs, capability, codeOf, TwoPools } from '../../helpers/two-pools.ts';
import { until } from '../../helpers/until.ts';

onNode(
  'a pool whose disk hangs does not delay other pools, and works again when its disk answers',
  async (t) => {
    t.timeout(5 * 60_000);
    const both = await TwoPools.make();
    const poolPath = join(both.directory, 'pool');
    try {
      const staged = await both.create('staged', 'hung');
      const volume_path = await both.stage(staged);
      const deleted = await both.create('deleted', 'hung');
      await execa('fsfreeze', ['--freeze', poolPath]);
      const hung: Promise<number>[] = [];
      try {
        // More calls than libuv has threads by default, and than the gate lets run in one lane.
        for (let index = 0; index < 12; index += 1) {
          hung.push(codeOf(both.create(`hung-${index}`, 'hung', 20_000)));
        }
        hung.push(
          codeOf(both.controller.DeleteVolume({ volume_id: deleted }, { timeoutMs: 20_000 })),
        );
        for (let round = 0; round < 3; round += 1) {
          await both.live(`good-${round}`);
          await both.identity.Probe({}, { timeoutMs: boundMs });
          const stats = both.node.NodeGetVolumeStats(
            { volume_id: staged, volume_path },
            { timeoutMs: boundMs },
          );
          t.not(
            await codeOf(stats),
            status.DEADLINE_EXCEEDED,
            'stats are answered, with or without an error',
          );
        }
        for (const code of await Promise.all(hung)) {
          t.true(
            [status.DEADLINE_EXCEEDED, status.ABORTED, status.UNAVAILABLE].includes(code),
            `hung calls do not claim success: ${code}`,
          );
        }
      } finally {
        await execa('fsfreeze', ['--unfreeze', poolPath]);
      }
      // The repeated calls succeed once the disk answers.
      for (const giveUpAt = Date.now() + 60_000; Date.now() < giveUpAt; ) {
        const again = await codeOf(both.create('hung-0', 'hung'));
        if (again === status.OK) break;
        t.true([status.ABORTED, status.UNAVAILABLE].includes(again), `after the thaw: ${again}`);
      }
      for (let index = 0; index < 12; index += 1) {
        const volume_id = await both.create(`hung-${index}`, 'hung');
        await both.controller.DeleteVolume({ volume_id }, { timeoutMs: boundMs });
      }
      await both.controller.DeleteVolume({ volume_id: deleted });
      await both.node.NodeUnstageVolume({ volume_id: staged, staging_target_path: volume_path });
      await both.controller.DeleteVolume({ volume_id: staged });
      t.deepEqual((await both.controller.ListVolumes({})).entries, []);
    } finally {
      await execa('fsfreeze', ['--unfreeze', poolPath], { reject: false });
      t.deepEqual(await both.end(), []);
    }
  },
);

onNode(
  'while a pool is frozen, a create without a pool is refused in time, and one in a named pool succeeds',
  async (t) => {
    t.timeout(3 * 60_000);
    const both = await TwoPools.make();
    const poolPath = join(both.directory, 'pool');
    const request = {
      name: 'unnamed',
      capacity_range: { required_bytes: 32n * MiB },
      volume_capabilities: [capability],
    };
    const within = { timeoutMs: boundMs };
    try {
      await execa('fsfreeze', ['--freeze', poolPath]);
      try {
        const error = await t.throwsAsync<ServiceError>(
          both.controller.CreateVolume(request, within),
        );
        t.is(error?.code, status.UNAVAILABLE);
        t.regex(error?.details ?? '', /pool 'hung'.* has not answered .*\(good\): parameter pool/);
        t.is((await both.admin.ListPools({}, within)).pools.length, 2);
        t.true((await both.controller.GetCapacity({}, within)).available_capacity > 0n);
        await both.create('unnamed', 'good');
      } finally {
        await execa('fsfreeze', ['--unfreeze', poolPath]);
      }
      const { volume } = await both.controller.CreateVolume({ ...request, name: 'thawed' }, within);
      const volume_id = volume?.volume_id ?? '';
      await both.controller.DeleteVolume({ volume_id });
      await both.controller.DeleteVolume({ volume_id: await both.create('unnamed', 'good') });
    } finally {
      await execa('fsfreeze', ['--unfreeze', poolPath], { reject: false });
      t.deepEqual(await both.end(), []);
    }
  },
);

/** Number of volumes whose calls hang: more than the threads of the driver, and more than it allows to wait for one disk. */
const width = 150;
/** The factor by which a life cycle may be slower while these calls hang, on a busy machine. */
const slowerBy = 8;
const graceMs = 2_000;

/** Duration of a complete life cycle of a volume of the good pool. */
async function lifeMs(both: TwoPools, name: string): Promise<number> {
  const startedAtMs = performance.now();
  await both.live(name);
  return performance.now() - startedAtMs;
}

onNode(
  `${width} calls on a pool that hangs do not slow other pools down, and return once its disk answers`,
  async (t) => {
    t.timeout(8 * 60_000);
    const both = await TwoPools.make();
    const { controller, node } = both;
    const poolPath = join(both.directory, 'pool');
    const patient = { timeoutMs: 120_000 };
    let isDone = false;
    try {
      const volumes = await Promise.all(
        Array.from({ length: width }, (_, index) => both.createBlock(`wide-${index}`, 'hung')),
      );
      const beside = await both.create('beside', 'good');
      const alone = [await lifeMs(both, 'alone-0'), await lifeMs(both, 'alone-1')];
      const bound = Math.max(...alone) * slowerBy + graceMs;
      const staged = volumes.slice(0, 40);
      const paths = new Map<string, string>();
      for (const volume_id of staged) paths.set(volume_id, await both.stageBlock(volume_id));
      await execa('fsfreeze', ['--freeze', poolPath]);
      const hung: Promise<number>[] = [];
      try {
        for (const [index, volume_id] of volumes.entries()) {
          const staging_target_path = paths.get(volume_id);
          const call =
            staging_target_path !== undefined
              ? node.NodeUnstageVolume({ volume_id, staging_target_path }, patient)
              : index % 4 === 0
                ? controller.DeleteVolume({ volume_id }, patient)
                : index % 4 === 1
                  ? controller.CreateSnapshot(
                      { name: `s-${index}`, source_volume_id: volume_id },
                      patient,
                    )
                  : both.stageBlock(volume_id, patient.timeoutMs);
          hung.push(codeOf(call));
        }
        for (let index = 0; index < 20; index += 1) {
          hung.push(codeOf(both.create(`new-${index}`, 'hung', patient.timeoutMs)));
        }
        // Both before the pool is known to hang and afterwards, when its calls are refused.
        for (let round = 0; round < 12; round += 1) {
          const tookMs = await lifeMs(both, `good-${round}`);
          t.true(tookMs < bound, `${tookMs} ms beside, ${alone.join(', ')} ms alone`);
          const startedAtMs = performance.now();
          t.true((await both.identity.Probe({}, { timeoutMs: boundMs })).ready?.value);
          const { volume_health } = await node.NodeGetVolumeHealth(
            { volume_id: beside },
            { timeoutMs: boundMs },
          );
          t.deepEqual(
            volume_health?.health_statuses,
            [],
            'the volume of the other pool is healthy',
          );
          t.true(performance.now() - startedAtMs < bound);
          await delay(1_000);
        }
      } finally {
        await execa('fsfreeze', ['--unfreeze', poolPath]);
      }
      const codes = await Promise.all(hung);
      t.false(codes.includes(status.DEADLINE_EXCEEDED), 'all calls have returned');
      // The repeated calls complete the work.
      for (const volume_id of volumes) {
        const staging_target_path = paths.get(volume_id) ?? both.stagingPathOf(volume_id);
        await untilOk(() => node.NodeUnstageVolume({ volume_id, staging_target_path }));
        await untilOk(() => controller.DeleteVolume({ volume_id }));
      }
      for (const { snapshot } of (await controller.ListSnapshots({})).entries) {
        await untilOk(() =>
          controller.DeleteSnapshot({ snapshot_id: snapshot?.snapshot_id ?? '' }),
        );
      }
      for (const { volume } of (await controller.ListVolumes({})).entries) {
        await untilOk(() => controller.DeleteVolume({ volume_id: volume?.volume_id ?? '' }));
      }
      t.deepEqual((await controller.ListVolumes({})).entries, []);
      await until('no call is stuck', async () =>
        /^loopcsi_stuck_owners 0$/m.test((await both.http('/metrics')).text),
      );
      isDone = true;
    } finally {
      await execa('fsfreeze', ['--unfreeze', poolPath], { reject: false });
      const left = await both.end();
      // An error of the cleanup would hide the failure of the test.
      if (isDone) t.deepEqual(left, []);
    }
  },
);

/** Once the disk answers, the repeated call succeeds. */
async function untilOk(call: () => Promise<unknown>): Promise<void> {
  await until(
    'the repeated call succeeds',
    async () => (await codeOf(call())) === status.OK,
    90_000,
  );
}

onNode('a frozen volume does not delay other volumes of its pool', async (t) => {
  t.timeout(3 * 60_000);
  const both = await TwoPools.make();
  try {
    const frozen = await both.create('frozen', 'good');
    const path = await both.stage(frozen);
    await execa('fsfreeze', ['--freeze', path]);
    // Frozen before the growth, which briefly unmounts the volume if it cannot grow while mounted.
    await both.node.NodeGetVolumeStats(
      { volume_id: frozen, volume_path: path },
      { timeoutMs: boundMs },
    );
    const stuck = codeOf(
      both.node.NodeExpandVolume(
        { volume_id: frozen, volume_path: path, capacity_range: { required_bytes: 64n * MiB } },
        { timeoutMs: 20_000 },
      ),
    );
    await both.live('beside');
    await stuck;
    // An unmount thaws the filesystem, so the volume can always be unstaged.
    await both.node.NodeUnstageVolume(
      { volume_id: frozen, staging_target_path: path },
      { timeoutMs: 60_000 },
    );
    await both.controller.DeleteVolume({ volume_id: frozen });
  } finally {
    t.deepEqual(await both.end(), []);
  }
});
