import { randomBytes } from 'node:crypto';
import { mkdir, readFile, statfs, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { Ext4State } from '../../src/host/filesystem/ext4/ext4.ts';
import { makeFilesystems } from '../../src/host/filesystem/filesystems.ts';
import type { Host } from '../../src/host/host.ts';
import type { Program } from '../../src/host/programs/programs.ts';
import { makeRun } from '../../src/host/programs/run.ts';
import { GiB, MiB } from '../../src/units.ts';
import { changedHost } from '../helpers/changed-host.ts';
import { type Kill, makeKillingRun } from '../helpers/killing-run.ts';
import { onNode } from '../helpers/on-node.ts';
import { reasonOf } from '../helpers/reason-of.ts';
import { call, capability, scratchNode, volumeInput } from '../helpers/scratch-node.ts';

/** Some of the writes of each program; all of them with LOOPCSI_KILL_ALL=1. */
const isWhole = process.env['LOOPCSI_KILL_ALL'] === '1';
const range = (last: number) => Array.from({ length: last }, (_, index) => index + 1);

/** For the volumes of this file, resize2fs makes some 150 writes, including those of its log, and e2fsck some 160. */
const cases: readonly { program: Program; last: number; sample: readonly number[] }[] = [
  { program: 'resize2fs', last: 160, sample: [1, 7, 14, 60, 121, 148] },
  { program: 'e2fsck', last: 170, sample: [3, 9, 40, 100, 150] },
];

for (const { program, last, sample } of cases) {
  for (const withDriver of [false, true]) {
    const who = withDriver ? 'with its driver' : 'alone';
    onNode(
      `the data is complete at the next stage after ${program} was killed ${who} before any of its writes`,
      async (t) => {
        for (const at of isWhole ? range(last) : sample) {
          await t.notThrowsAsync(stageAfterKill(t, { program, at, withDriver }), `write ${at}`);
        }
      },
    );
  }
}

type Context = Parameters<typeof scratchNode>[0];

async function stageAfterKill(t: Context, kill: Kill): Promise<void> {
  let run = makeRun();
  const ext4State = new Ext4State();
  const replaced = (real: Host): Host =>
    changedHost(real, (host) => ({
      facts: { ...host.facts, canGrowExt4Online: false },
      filesystems: {
        ...host.filesystems,
        ext4: makeFilesystems(host.lane, {
          run: (lane, file, args, options) => run(lane, file, args, options),
          loops: host.loops,
          mounts: host.mounts,
          ext4State,
          kernelRelease: release(),
        }).ext4,
      },
    }));
  const node = await scratchNode(t, { host: replaced });
  const { volumes } = node;
  const made = await volumes.createVolume(call(), volumeInput('v', { sizeBytes: 64n * MiB }));
  const volumeId = made.record.id;
  const stagingTargetPath = node.pathOf('staging');
  await mkdir(stagingTargetPath);
  const request = { volumeId, stagingTargetPath, capability: capability() };
  await volumes.stageVolume(call(), request);
  const data = randomBytes(Number(8n * MiB));
  await writeFile(join(stagingTargetPath, 'data'), data);
  for (const index of range(100)) await writeFile(join(stagingTargetPath, `f${index}`), `${index}`);
  await volumes.unstageVolume(call(), { volumeId, stagingTargetPath });
  const image = join(node.poolPath, 'volumes', volumeId, 'disk.img');
  // Makes an error that e2fsck repairs.
  if (kill.program === 'e2fsck') {
    for (const value of ['state 2', 'free_blocks_count 77', 'free_inodes_count 5']) {
      await execa('debugfs', ['-w', '-R', `set_super_value ${value}`, image]);
    }
  }
  await volumes.expandVolume(call(), {
    volumeId,
    range: { requiredBytes: 2n * GiB, limitBytes: 0n },
  });
  const killing = makeKillingRun(kill);
  run = killing.run;
  const staged = reasonOf(volumes.stageVolume(call(), request));
  // The program made fewer writes than that and was not killed.
  const outcome = await Promise.race([staged, killing.killed.then(() => 'killed')]);
  if (kill.withDriver !== true) await staged;
  run = makeRun();
  if (outcome !== 'ok') {
    await node.restart();
    await node.volumes.stageVolume(call(), request);
  }
  t.true((await readFile(join(stagingTargetPath, 'data'))).equals(data));
  for (const index of range(100)) {
    t.is(await readFile(join(stagingTargetPath, `f${index}`), 'utf8'), `${index}`);
  }
  const { bsize, blocks } = await statfs(stagingTargetPath);
  t.true(bsize * blocks > 1900 << 20, 'the filesystem has grown');
  await node.volumes.unstageVolume(call(), { volumeId, stagingTargetPath });
  t.is((await execa('e2fsck', ['-fn', image], { reject: false })).exitCode, 0);
  await node.volumes.deleteVolume(call(), volumeId);
}
