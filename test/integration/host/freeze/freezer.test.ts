import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { hasErrno } from '../../../../src/host/errors.ts';
import type { Freezer, FsType, LoopDevice } from '../../../../src/host/host.ts';
import { MiB } from '../../../../src/units.ts';
import { onNode } from '../../../helpers/on-node.ts';
import { onScratch, type Scratch } from '../../../helpers/root-scratch.ts';
import { until } from '../../../helpers/until.ts';

const sizes: Readonly<Record<FsType, bigint>> = {
  ext4: 64n * MiB,
  xfs: 300n * MiB,
  btrfs: 128n * MiB,
};

/** Makes, attaches and mounts a filesystem during `work`. */
async function onVolume<T>(
  { host, directory }: Scratch,
  fsType: FsType,
  work: (target: string, device: LoopDevice) => Promise<T>,
): Promise<T> {
  const path = join(directory, `${fsType}.img`);
  const target = join(directory, fsType);
  const filesystem = host.filesystems[fsType];
  await host.files.createImage(path, { sizeBytes: sizes[fsType], allocate: false });
  const uuid = randomUUID();
  await filesystem.make(path, { sectorSize: 4096, thick: false, uuid, options: [] });
  await mkdir(target);
  const device = await host.loops.attach(path, {
    sectorSize: 4096,
    readOnly: false,
    directIo: true,
    discard: true,
    label: 'freeze',
  });
  try {
    await host.mounts.mountDevice(device.path, target, {
      fsType,
      options: filesystem.mountOptions,
    });
    return await work(target, device);
  } finally {
    await host.mounts.unmount(target);
    await host.loops.detach(device);
  }
}

/** Starts a write in the background, and reports whether it has ended. */
function startWriter(path: string): { hasEnded: () => boolean; ended: Promise<void> } {
  let over = false;
  const ended = writeFile(path, 'written').then(() => {
    over = true;
  });
  return { hasEnded: () => over, ended };
}

for (const fsType of ['ext4', 'xfs', 'btrfs'] as const) {
  onNode(`${fsType}: a writer waits while frozen and continues after the thaw`, async (t) => {
    await onScratch(t, async (scratch) => {
      await onVolume(scratch, fsType, async (target, device) => {
        const freeze = await scratch.host.freezer.freeze([{ target, device }], {
          timeoutMs: 30_000,
        });
        const writer = startWriter(join(target, 'file'));
        await new Promise((resolve) => setTimeout(resolve, 100));
        t.false(writer.hasEnded());
        t.true((await freeze.thaw()) >= 100);
        await writer.ended;
        t.is(await readFile(join(target, 'file'), 'utf8'), 'written');
      });
    });
  });
}

type FreezeMember = Parameters<Freezer['freeze']>[0][number];

/** Passes a group of two mounted volumes, an ext4 and a btrfs, to `work`. */
async function onGroup(
  t: ExecutionContext,
  work: (freezer: Freezer, members: readonly [FreezeMember, FreezeMember]) => Promise<void>,
): Promise<void> {
  await onScratch(t, async (scratch) => {
    await onVolume(scratch, 'ext4', (first, one) =>
      onVolume(scratch, 'btrfs', (second, other) =>
        work(scratch.host.freezer, [
          { target: first, device: one },
          { target: second, device: other },
        ]),
      ),
    );
  });
}

onNode('a group is frozen together, and another freeze of a member is EBUSY', async (t) => {
  await onGroup(t, async (freezer, members) => {
    const freeze = await freezer.freeze(members, { timeoutMs: 30_000 });
    const writers = members.map(({ target }) => startWriter(join(target, 'file')));
    const error = await t.throwsAsync(freezer.freeze(members.slice(1), { timeoutMs: 30_000 }));
    t.true(hasErrno(error, 'EBUSY'));
    t.deepEqual(
      writers.map((writer) => writer.hasEnded()),
      [false, false],
    );
    await freeze.thaw();
    await Promise.all(writers.map((writer) => writer.ended));
  });
});

onNode(
  'if another process froze a member of a group, no member that the driver froze stays frozen',
  async (t) => {
    await onGroup(t, async (freezer, members) => {
      const [first, second] = members;
      const theirs = await freezer.freeze([second], { timeoutMs: 30_000 });
      const error = await t.throwsAsync(freezer.freeze(members, { timeoutMs: 30_000 }));
      t.true(hasErrno(error, 'EBUSY'));
      await writeFile(join(first.target, 'file'), 'goes on');
      const writer = startWriter(join(second.target, 'file'));
      await new Promise((resolve) => setTimeout(resolve, 50));
      t.false(writer.hasEnded(), 'the member frozen by the other process stays frozen');
      await theirs.thaw();
      await writer.ended;
    });
  },
);

onNode('a frozen filesystem can be unmounted, and its device is free after the thaw', async (t) => {
  await onScratch(t, async (scratch) => {
    for (const fsType of ['ext4', 'xfs', 'btrfs'] as const) {
      await onVolume(scratch, fsType, async (target, device) => {
        const { freezer, mounts, loops } = scratch.host;
        await writeFile(join(target, 'file'), 'written before');
        const freeze = await freezer.freeze([{ target, device }], { timeoutMs: 30_000 });
        const file = await open(join(target, 'file'));
        const error = await t.throwsAsync(mounts.unmount(target, { keepFrozen: true }));
        t.true(hasErrno(error, 'EBUSY'), 'an open file keeps the mount busy, the freeze does not');
        await file.close();
        await mounts.unmount(target, { keepFrozen: true });
        t.is(await mounts.at(target), undefined);
        t.true(await loops.isInUse(device), 'its superblock stays active');
        await freeze.thaw();
        t.false(await loops.isInUse(device), fsType);
        const options = { fsType, options: scratch.host.filesystems[fsType].mountOptions };
        await mounts.mountDevice(device.path, target, options);
        t.is(await readFile(join(target, 'file'), 'utf8'), 'written before');
      });
    }
  });
});

onNode('a freeze ends at once when the driver is killed', async (t) => {
  await onScratch(t, async (scratch) => {
    await onVolume(scratch, 'ext4', async (target, device) => {
      const script = join(import.meta.dirname, '..', '..', '..', 'helpers', 'frozen-driver.js');
      const driver = spawn(process.execPath, [script, target, device.path, device.majorMinor], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await new Promise((resolve) => driver.stdout.once('data', resolve));
      const writer = startWriter(join(target, 'file'));
      await new Promise((resolve) => setTimeout(resolve, 100));
      t.false(writer.hasEnded(), 'the writer must be waiting');
      const killedAtMs = performance.now();
      driver.kill('SIGKILL');
      // Long before the time limit of the freeze.
      await until('the writer ends', writer.hasEnded, 20_000);
      t.log(`the writer ended ${(performance.now() - killedAtMs).toFixed(1)} ms after SIGKILL`);
      t.false(await scratch.host.mounts.thaw(target, device));
      // The child closes the directory before it ends.
      await until('the filesystem can be unmounted', () =>
        scratch.host.mounts.unmount(target).then(
          () => true,
          () => false,
        ),
      );
    });
  });
});

onNode('a freeze ends at its time limit, and its thaw fails', async (t) => {
  await onScratch(t, async (scratch) => {
    await onVolume(scratch, 'ext4', async (target, device) => {
      const freeze = await scratch.host.freezer.freeze([{ target, device }], { timeoutMs: 300 });
      const writer = startWriter(join(target, 'file'));
      await until('the writer ends', writer.hasEnded, 20_000);
      t.true(hasErrno(await t.throwsAsync(freeze.thaw()), 'ETIMEDOUT'));
    });
  });
});

onNode('when the freeze child is killed, everything is thawed and the thaw fails', async (t) => {
  await onScratch(t, async (scratch) => {
    await onVolume(scratch, 'ext4', async (target, device) => {
      const { freezer } = scratch.host;
      const freeze = await freezer.freeze([{ target, device }], { timeoutMs: 30_000 });
      const writer = startWriter(join(target, 'file'));
      for (const pid of await freezeChildren()) process.kill(pid, 'SIGKILL');
      await until('the writer ends', writer.hasEnded, 20_000);
      const error = await t.throwsAsync(freeze.thaw());
      t.true(hasErrno(error, 'ECHILD'));
      const next = await freezer.freeze([{ target, device }], { timeoutMs: 30_000 });
      t.true((await next.thaw()) >= 0, 'a new child is started');
    });
  });
});

/** Children of this process that run the freeze child. */
async function freezeChildren(): Promise<readonly number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found: number[] = [];
  for (const pid of pids) {
    const [stat, command] = await Promise.all(
      ['stat', 'cmdline'].map((file) => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '')),
    );
    const parent = Number(stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    if (parent === process.pid && command?.includes('freeze-child') === true)
      found.push(Number(pid));
  }
  return found;
}
