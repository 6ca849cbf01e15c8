import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { VolumeError } from '../../src/errors.ts';
import type { Host } from '../../src/host/host.ts';
import { GiB, MiB } from '../../src/units.ts';
import { chunkBytes } from '../helpers/fsync-writer.ts';
import { onNode } from '../helpers/on-node.ts';
import {
  call,
  mountVolume,
  type ScratchNode,
  scratchNode,
  unmountVolume,
  volumeInput,
} from '../helpers/scratch-node.ts';
import { until } from '../helpers/until.ts';

const writerProgram = join(import.meta.dirname, '..', 'helpers', 'fsync-writer.js');

/** Free bytes for users and for root. The kernel writes images as root, which may use the filesystem's reserved blocks. */
async function freeBytesOf(
  path: string,
): Promise<{ readonly ofUsers: bigint; readonly ofRoot: bigint }> {
  const { bavail, bfree, bsize } = await statfs(path, { bigint: true });
  return { ofUsers: bavail * bsize, ofRoot: bfree * bsize };
}

async function isReadOnly(node: ScratchNode, target: string): Promise<boolean> {
  const mount = await node.host.mounts.at(target);
  return (
    mount?.superOptions.some((option) => /^(?:ro|emergency_ro|shutdown)$/.test(option)) ?? true
  );
}

/** A process that starts elsewhere on the machine has a copy of every mount for a moment. */
async function unmountPatiently(...request: Parameters<typeof unmountVolume>): Promise<void> {
  await until('it is unmounted', async () => {
    try {
      await unmountVolume(...request);
      return true;
    } catch (error) {
      if (error instanceof VolumeError && error.reason === 'busy') return false;
      throw error;
    }
  });
}

/** The process is killed at the end of the test. */
function startProcess(
  t: ExecutionContext,
  file: string,
  args: readonly string[],
  options: { cwd?: string } = {},
): {
  readonly process: ChildProcessByStdio<null, Readable, null>;
  readonly ended: Promise<unknown>;
} {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'], ...options });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return { process: child, ended };
}

function pidOf({ process: { pid } }: ReturnType<typeof startProcess>): string {
  return String(pid);
}

for (const [seen, host] of [
  ['can be seen', undefined],
  [
    'cannot be seen',
    (real: Host): Host => ({
      ...real,
      missingPrograms: () => real.missingPrograms(),
      supportedFilesystems: () => real.supportedFilesystems(),
      users: { ofMounts: async () => [], ofDevice: async () => [], devicesAbove: async () => [] },
    }),
  ],
] as const) {
  onNode(
    `a frozen volume whose unmount fails stays guarded and its writer gets no ENOSPC, if its users ${seen}`,
    async (t) => {
      const node = await scratchNode(t, {
        poolFs: 'ext4',
        poolFsBytes: 2n * GiB,
        pool: { overcommitPerMille: 4000, reserve: { bytes: 0n } },
        ...(host === undefined ? {} : { host }),
      });
      const input = volumeInput('v', { sizeBytes: 2n * GiB });
      const { record } = await node.volumes.createVolume(call(), input);
      const paths = await mountVolume(node, record.id);
      const ballast = join(node.poolPath, 'ballast');
      const fillBytes = (await freeBytesOf(node.poolPath)).ofUsers - 320n * MiB;
      await execa('fallocate', ['--length', String(fillBytes), ballast]);
      // The pool has more free space than a writer fills at once, so the guard checks it later. It begins with a trim.
      const [pool] = node.domain.pools.all;
      if (pool === undefined) throw new Error('no pool');
      const { trims } = node.domain;
      await until('the guard has trimmed it', () => trims.countsOf(pool).runs.done > 0);
      // More than the pool has free, so the writer succeeds only if it waits.
      const chunks = Math.ceil(Number(480n * MiB) / chunkBytes);
      const writer = startProcess(t, process.execPath, [
        writerProgram,
        join(paths.targetPath, 'file'),
        String(chunks),
      ]);
      t.teardown(() => node.domain.guard.stop());
      await once(writer.process.stdout, 'data');
      writer.process.stdout.resume();
      const isFrozen = () => node.domain.guard.frozenSince(record.id) !== undefined;
      await until('it is frozen', isFrozen);
      for (let attempt = 0; attempt < 3; attempt += 1) {
        const request = { volumeId: record.id, targetPath: paths.targetPath };
        const error = await t.throwsAsync(node.volumes.unpublishVolume(call(), request), {
          instanceOf: VolumeError,
        });
        t.is(error?.reason, 'wrong-state');
        t.true(isFrozen(), 'nothing was thawed for an unmount that can fail');
        if (host === undefined) {
          t.true(error?.message.includes(`(${pidOf(writer)})`), error?.message);
        }
        const reasons = (await node.volumes.volumeHealth(record.id)).map(({ reason }) => reason);
        t.false(reasons.includes('RoomGuardExpired'), reasons.join(' '));
      }
      t.true((await freeBytesOf(node.poolPath)).ofRoot > 0n, 'the pool is not full');
      t.is(writer.process.exitCode, null, 'the writer waits');
      t.false(await isReadOnly(node, paths.targetPath));

      await rm(ballast);
      await writer.ended;
      t.is(writer.process.exitCode, 0, 'no write failed');
      t.false(await isReadOnly(node, paths.targetPath), 'no journal was aborted');
      await unmountPatiently(node, record.id, paths);
      t.deepEqual(await node.volumes.volumeHealth(record.id), []);
    },
  );
}

onNode(
  'the error of a busy unmount names the processes and mounts that keep it busy',
  async (t) => {
    const node = await scratchNode(t);
    const { record } = await node.volumes.createVolume(
      call(),
      volumeInput('v', { sizeBytes: 64n * MiB }),
    );
    const paths = await mountVolume(node, record.id);
    const { targetPath } = paths;
    const messageOfUnpublish = async (): Promise<string> => {
      const request = { volumeId: record.id, targetPath };
      const error = await t.throwsAsync(node.volumes.unpublishVolume(call(), request), {
        instanceOf: VolumeError,
      });
      t.is(error?.reason, 'wrong-state');
      return error?.message ?? '';
    };
    const sleeper = startProcess(t, 'sleep', ['1000'], { cwd: targetPath });
    const reader = startProcess(t, 'sh', ['-c', `exec sleep 1000 <"${targetPath}"`]);
    await copyFile('/bin/sleep', join(targetPath, 'program'));
    await execa('chmod', ['700', join(targetPath, 'program')]);
    const program = startProcess(t, join(targetPath, 'program'), ['1000']);
    const named = (one: typeof sleeper, command: string) => `${command} (${pidOf(one)})`;
    await until('the message names all users', async () => {
      const message = await messageOfUnpublish();
      return [named(sleeper, 'sleep'), named(reader, 'sleep'), named(program, 'program')].every(
        (part) => message.includes(part),
      );
    });
    for (const one of [sleeper, reader, program]) {
      one.process.kill('SIGKILL');
      await one.ended;
    }

    const below = join(targetPath, 'below');
    await mkdir(below);
    await node.host.mounts.bind(node.directory, below, { readOnly: true });
    t.teardown(() => node.host.mounts.unmount(below));
    t.regex(await messageOfUnpublish(), new RegExp(`${below} is mounted below it`));
    await node.host.mounts.unmount(below);
    await unmountPatiently(node, record.id, paths);
  },
);

onNode('the error for a device mounted in another namespace names a process there', async (t) => {
  const node = await scratchNode(t);
  const { record } = await node.volumes.createVolume(
    call(),
    volumeInput('v', { sizeBytes: 64n * MiB }),
  );
  const paths = await mountVolume(node, record.id);
  const other = startProcess(t, 'unshare', [
    '--mount',
    '--propagation',
    'private',
    'sleep',
    '1000',
  ]);
  await until('it runs in its own namespace', async () => {
    const { stdout } = await execa('cat', [`/proc/${pidOf(other)}/comm`]);
    return stdout.trim() === 'sleep';
  });
  const error = await t.throwsAsync(unmountVolume(node, record.id, paths), {
    instanceOf: VolumeError,
  });
  t.is(error?.reason, 'busy');
  t.true(error?.message.includes(`sleep (${pidOf(other)})`), error?.message);
  other.process.kill('SIGKILL');
  await other.ended;
  await node.volumes.unstageVolume(call(), { volumeId: record.id, ...paths });
});

onNode('an unstage during a trim waits for at most one range', async (t) => {
  const node = await scratchNode(t, { poolFs: 'ext4', poolFsBytes: 2n * GiB });
  const { record, pool } = await node.volumes.createVolume(
    call(),
    volumeInput('v', { sizeBytes: GiB }),
  );
  const paths = await mountVolume(node, record.id);
  const device = (await node.host.loops.list()).find(({ label }) => label.includes(record.id));
  if (device === undefined) throw new Error('it is not attached');
  const { imagePath } = node.domain.pools.getVolume(record.id);
  const target = paths.stagingTargetPath;
  const guarded = { record, area: 'volumes', imagePath, target, device } as const;
  let trims = 0;
  const state = { isOver: false };
  const trimming = (async () => {
    while (!state.isOver) {
      await node.domain.trims.trim(node.domain.pools.named(pool), guarded, 'guard');
      trims += 1;
      // A trim that runs during the call below ends at once.
      await nextTurn();
    }
  })();
  await until('it is trimmed', () => trims > 0);
  await unmountPatiently(node, record.id, paths);
  state.isOver = true;
  await trimming;
  t.is(await node.host.mounts.at(paths.stagingTargetPath), undefined);
});
