import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { execa } from 'execa';
import { MiB } from '../../src/units.ts';
import { onNode } from '../helpers/on-node.ts';
import { boundMs, codeOf, TwoPools } from '../helpers/two-pools.ts';

onNode('a pool whose disk hangs stops no other pool, and goes on when its disk does', async (t) => {
  t.timeout(5 * 60_000);
  const both = await TwoPools.make();
  const ground = join(both.directory, 'pool');
  try {
    const staged = await both.create('staged', 'hung');
    const volume_path = await both.stage(staged);
    const deleted = await both.create('deleted', 'hung');
    await execa('fsfreeze', ['--freeze', ground]);
    const hung: Promise<number>[] = [];
    try {
      // More than libuv has threads by default, and more than the gate lets through for one owner.
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
        t.not(await codeOf(stats), status.DEADLINE_EXCEEDED, 'stats answer, whatever they say');
      }
      for (const code of await Promise.all(hung)) {
        t.true(
          [status.DEADLINE_EXCEEDED, status.ABORTED, status.UNAVAILABLE].includes(code),
          `hung calls do not claim success: ${code}`,
        );
      }
    } finally {
      await execa('fsfreeze', ['--unfreeze', ground]);
    }
    // The same calls again, as their callers make them, succeed once the disk answers.
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
    await execa('fsfreeze', ['--unfreeze', ground], { reject: false });
    t.deepEqual(await both.end(), []);
  }
});

onNode('a volume that stands still stops no other one of its pool', async (t) => {
  t.timeout(3 * 60_000);
  const both = await TwoPools.make();
  try {
    const frozen = await both.create('frozen', 'good');
    const path = await both.stage(frozen);
    await execa('fsfreeze', ['--freeze', path]);
    const stuck = codeOf(
      both.node.NodeExpandVolume(
        { volume_id: frozen, volume_path: path, capacity_range: { required_bytes: 64n * MiB } },
        { timeoutMs: 20_000 },
      ),
    );
    await both.live('beside');
    await both.node.NodeGetVolumeStats(
      { volume_id: frozen, volume_path: path },
      { timeoutMs: boundMs },
    );
    await stuck;
    // It thaws what it unmounts: an end is always possible.
    await both.node.NodeUnstageVolume(
      { volume_id: frozen, staging_target_path: path },
      { timeoutMs: 60_000 },
    );
    await both.controller.DeleteVolume({ volume_id: frozen });
  } finally {
    t.deepEqual(await both.end(), []);
  }
});
