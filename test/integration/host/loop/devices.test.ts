import { execFile, execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { execa } from 'execa';
import { hasErrno } from '../../../../src/host/errors.ts';
import type { AttachOptions, Host } from '../../../../src/host/host.ts';
import { driverLane } from '../../../../src/host/lane.ts';
import { LoopState, makeLoopDevices } from '../../../../src/host/loop/devices.ts';
import { noLimits } from '../../../../src/host/loop/io-limits.ts';
import { makeRealHost } from '../../../../src/host/real-host.ts';
import { MiB } from '../../../../src/units.ts';
import { FakeDeviceLimits } from '../../../helpers/fake-device-limits.ts';
import { onNode } from '../../../helpers/on-node.ts';
import { onScratch, type Scratch } from '../../../helpers/root-scratch.ts';
import { until } from '../../../helpers/until.ts';

const options: AttachOptions = {
  sectorSize: 4096,
  readOnly: false,
  directIo: true,
  discard: true,
  label: 'test',
};

async function makeExt4(
  { host, directory }: Scratch,
  name = 'a',
  allocate = false,
): Promise<string> {
  const path = join(directory, `${name}.img`);
  await host.files.createImage(path, { sizeBytes: 64n * MiB, allocate });
  const uuid = randomUUID();
  await host.filesystems.ext4.make(path, { sectorSize: 4096, thick: allocate, uuid, options: [] });
  return path;
}

const discardLimit = async (number: number): Promise<number> =>
  Number(await readFile(`/sys/block/loop${number}/queue/discard_max_bytes`, 'utf8'));

const mount = (host: Host, path: string, target: string) =>
  host.mounts.mountDevice(path, target, { fsType: 'ext4', options: [] });

onNode('attaching 16 images at once gives 16 devices', async (t) => {
  await onScratch(t, async ({ host, directory }) => {
    const paths = Array.from({ length: 16 }, (_, index) => join(directory, `${index}.img`));
    for (const path of paths)
      await host.files.createImage(path, { sizeBytes: MiB, allocate: false });
    const devices = await Promise.all(paths.map((path) => host.loops.attach(path, options)));
    t.is(new Set(devices.map(({ number }) => number)).size, 16);
    for (const [index, device] of devices.entries()) {
      const image = await host.files.imageStatus(paths[index] ?? '');
      t.deepEqual(await host.loops.findByImage(image), [device]);
    }
    const outcomes = await Promise.all(devices.map((device) => host.loops.detach(device)));
    t.deepEqual(new Set(outcomes), new Set(['detached']));
  });
});

onNode(
  'a device whose image is on a failed filesystem does not affect other devices',
  async (t) => {
    await onScratch(t, async ({ host, directory }) => {
      const poolImage = join(directory, 'pool-fs.img');
      const pool = join(directory, 'pool');
      const own = join(directory, 'own.img');
      await host.files.createImage(poolImage, { sizeBytes: 320n * MiB, allocate: false });
      execFileSync('mkfs.xfs', ['-q', poolImage]);
      await mkdir(pool);
      const below = await host.loops.attach(poolImage, { ...options, sectorSize: 512 });
      await host.mounts.mountDevice(below.path, pool, { fsType: 'xfs', options: [] });
      const broken = join(pool, 'a.img');
      await host.files.createImage(broken, { sizeBytes: MiB, allocate: false });
      const foreign = await host.loops.attach(broken, options);
      try {
        execFileSync('xfs_io', ['-x', '-c', 'shutdown', pool]);
        // A new driver: this one would not query a device that it attached itself.
        const { loops } = makeRealHost();
        await host.files.createImage(own, { sizeBytes: MiB, allocate: false });
        const image = await host.files.imageStatus(own);
        t.deepEqual(await loops.findByImage(image), []);
        const device = await loops.attach(own, options);
        t.deepEqual(await makeRealHost().loops.findByImage(image), [device]);
        const numbers = (await makeRealHost().loops.list()).map(({ number }) => number);
        t.true(numbers.includes(device.number));
        t.false(numbers.includes(foreign.number));
        await loops.detach(device);
        // The driver that attached it still knows it, so its volume can be unstaged.
        const known = (await host.loops.list()).map(({ number }) => number);
        t.true(known.includes(foreign.number));
      } finally {
        t.is(await host.loops.detach(foreign), 'detached');
        await host.mounts.unmount(pool);
        t.is(await host.loops.detach(below), 'detached');
      }
    });
  },
);

onNode('a device has the requested sector size and direct I/O mode', async (t) => {
  await onScratch(t, async ({ host, directory }) => {
    const path = join(directory, 'a.img');
    await host.files.createImage(path, { sizeBytes: MiB, allocate: false });
    for (const [sectorSize, directIo] of [
      [512, true],
      [4096, false],
    ] as const) {
      const device = await host.loops.attach(path, { ...options, sectorSize, directIo });
      t.deepEqual([device.sectorSize, device.directIo], [sectorSize, directIo]);
      t.is(
        (await readFile(`/sys/block/loop${device.number}/loop/dio`, 'utf8')).trim(),
        directIo ? '1' : '0',
      );
      await host.loops.detach(device);
    }
  });
});

onNode(
  'a thick device discards nothing, and its number supports discard again afterwards',
  async (t) => {
    await onScratch(t, async (scratch) => {
      const { host, directory } = scratch;
      const path = await makeExt4(scratch, 'thick', true);
      const thin = await makeExt4(scratch, 'thin');
      const target = join(directory, 'target');
      await mkdir(target);
      let isAttached = false;
      // Attach to its number explicitly: attach would choose it too, unless another process was faster. Then it is tried again.
      for (let tries = 0; !isAttached && tries < 20; tries += 1) {
        const device = await host.loops.attach(path, { ...options, discard: false });
        await mount(host, device.path, target);
        const error = await t.throwsAsync(
          host.mounts.trim(target, device, { offset: 0n, length: 1n << 40n }),
        );
        t.true(hasErrno(error, 'EOPNOTSUPP'));
        await host.mounts.unmount(target);
        t.true((await host.files.imageStatus(path)).allocatedBytes >= 64n * MiB);
        t.is(await host.loops.detach(device), 'detached');
        isAttached = await attachAt(device.path, thin);
        if (isAttached) t.true((await discardLimit(device.number)) > 0);
      }
      t.true(isAttached, 'other processes were always faster');
      const [next] = await host.loops.findByImage(await host.files.imageStatus(thin));
      if (next !== undefined) await host.loops.detach(next);
    });
  },
);

/** Returns false if another image is attached to the number. */
async function attachAt(devicePath: string, image: string): Promise<boolean> {
  const losetup = await execa('losetup', ['--sector-size', '4096', devicePath, image], {
    reject: false,
    env: { LC_ALL: 'C' },
  });
  if (losetup.exitCode === 0) return true;
  if (losetup.stderr.includes('busy')) return false;
  throw new Error(losetup.stderr);
}

onNode('a device number that was left with a discard limit of 0 is made usable', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host } = scratch;
    const path = await makeExt4(scratch);
    const unusable = await host.loops.attach(path, options);
    await writeFile(`/sys/block/loop${unusable.number}/queue/discard_max_bytes`, '0');
    execFileSync('losetup', ['--detach', unusable.path]);
    const device = await host.loops.attach(path, options);
    t.true((await discardLimit(device.number)) > 0);
    await host.loops.detach(device);
  });
});

onNode('a read-only device refuses writes', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host } = scratch;
    const device = await host.loops.attach(await makeExt4(scratch), { ...options, readOnly: true });
    const node = await open(device.path, 'r+');
    const error = await t.throwsAsync(node.write(Buffer.alloc(4096), 0, 4096, 0));
    await node.close();
    t.true(hasErrno(error, 'EPERM'));
    await host.loops.detach(device);
  });
});

onNode('data of raw writers in the page cache is in the image after a sync', async (t) => {
  await onScratch(t, async ({ host, directory }) => {
    const path = join(directory, 'a.img');
    await host.files.createImage(path, { sizeBytes: MiB, allocate: false });
    const device = await host.loops.attach(path, options);
    const node = await open(device.path, 'r+');
    // The kernel may write back a page at any time; only a page that is still only in the cache proves the sync.
    let offset = -4096;
    do {
      offset += 4096;
      await node.write(Buffer.alloc(4096, 7), 0, 4096, offset);
    } while (offset < 128 * 4096 && (await readFile(path)).readUInt8(offset) !== 0);
    t.true(offset < 128 * 4096, 'a page must have stayed in the cache');
    await host.loops.sync(device);
    t.is((await readFile(path)).readUInt8(offset), 7);
    await node.close();
    await host.loops.detach(device);
  });
});

onNode(
  'a device that another process has open is in use, and stays attached when that closes it',
  async (t) => {
    await onScratch(t, async (scratch) => {
      const { host } = scratch;
      const device = await host.loops.attach(await makeExt4(scratch), options);
      const holder = await open(device.path, 'r');
      t.is(await host.loops.detach(device), 'in-use');
      t.is((await host.loops.findByImage(device.backing)).length, 1);
      await holder.close();
      t.deepEqual(await host.loops.findByImage(device.backing), [device]);
      t.is(await host.loops.detach(device), 'detached');
    });
  },
);

onNode(
  'I/O limits of a number are removed when it is attached and detached, and put back if it stays attached',
  async (t) => {
    await onScratch(t, async (scratch) => {
      const limits = new FakeDeviceLimits();
      const loops = makeLoopDevices(driverLane, new LoopState(), limits);
      const wanted = { ...noLimits, readIops: 500n };
      // Limits that former devices have left, whichever number is free.
      for (let number = 0; number < 4096; number += 1) limits.devices.set(`7:${number}`, wanted);
      const device = await loops.attach(await makeExt4(scratch), options);
      const { majorMinor } = device;
      t.false(limits.devices.has(majorMinor));
      t.is(limits.devices.size, 4095, 'those of other numbers are left alone');

      limits.devices.set(majorMinor, wanted);
      const holder = await open(device.path, 'r');
      t.is(await loops.detach(device), 'in-use');
      t.deepEqual(limits.devices.get(majorMinor), wanted, 'in use');
      const set = limits.set.bind(limits);
      limits.set = async (number, values) => {
        if (values !== noLimits) throw new Error('refused by the kernel');
        await set(number, values);
      };
      t.is(await loops.detach(device), 'in-use', 'whether or not they can be put back');
      limits.set = set;
      await holder.close();

      limits.devices.set(majorMinor, wanted);
      await t.throwsAsync(loops.detach({ ...device, path: '/dev/null' }), { message: /ENOTTY/ });
      t.deepEqual(limits.devices.get(majorMinor), wanted, 'a failed detach');
      t.is(await loops.detach(device), 'detached');
      t.false(limits.devices.has(majorMinor));
    });
  },
);

onNode('a device that another process has open only briefly is detached', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host } = scratch;
    const device = await host.loops.attach(await makeExt4(scratch), options);
    const holder = await open(device.path, 'r');
    const [outcome] = await Promise.all([
      host.loops.detach(device),
      new Promise((resolve) => setTimeout(resolve, 100)).then(() => holder.close()),
    ]);
    t.is(outcome, 'detached');
  });
});

onNode('a mount in another namespace, not in our mountinfo, keeps a device in use', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host, directory } = scratch;
    const target = join(directory, 'target');
    await mkdir(target);
    const device = await host.loops.attach(await makeExt4(scratch), options);
    const script = `mount ${device.path} ${target} && echo mounted && read _`;
    const other = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const ended = new Promise((resolve) => other.once('exit', resolve));
    await new Promise((resolve) => other.stdout.once('data', resolve));
    t.is(await host.mounts.at(target), undefined);
    t.true(await host.loops.isInUse(device));
    t.is(await host.loops.detach(device), 'in-use');
    other.stdin.end();
    await ended;
    // The kernel ends a mount namespace in the background, after its last process.
    await until('the device is free', async () => !(await host.loops.isInUse(device)));
    t.deepEqual(await host.loops.findByImage(device.backing), [device]);
    t.is(await host.loops.detach(device), 'detached');
  });
});

onNode('a deleted image is still found by its inode', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host } = scratch;
    const path = await makeExt4(scratch);
    const image = await host.files.imageStatus(path);
    const device = await host.loops.attach(path, options);
    await rm(path);
    t.deepEqual(await host.loops.findByImage(image), [device]);
    await host.loops.detach(device);
    t.deepEqual(await host.loops.findByImage(image), []);
  });
});

onNode('a number that has another image now is not mistaken for the old device', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host } = scratch;
    const [first, second] = [await makeExt4(scratch, 'a'), await makeExt4(scratch, 'b')];
    const [one, other] = [
      await host.files.imageStatus(first),
      await host.files.imageStatus(second),
    ];
    for (let times = 0; times < 20; times += 1) {
      const device = await host.loops.attach(times % 2 === 0 ? first : second, options);
      t.is((await host.loops.findByImage(one)).length, times % 2 === 0 ? 1 : 0);
      t.is((await host.loops.findByImage(other)).length, times % 2 === 0 ? 0 : 1);
      await host.loops.detach(device);
    }
  });
});

onNode('the path of an image can be read while its device is being detached', async (t) => {
  await onScratch(t, async ({ host, directory }) => {
    const path = join(directory, 'a.img');
    await host.files.createImage(path, { sizeBytes: MiB, allocate: false });
    const found = new Set<string | undefined>();
    for (let times = 0; times < 100; times += 1) {
      const device = await host.loops.attach(path, options);
      let isAttached = true;
      const reads = Array.from({ length: 4 }, async () => {
        while (isAttached) found.add(await host.loops.backingPath(device));
      });
      await host.loops.detach(device);
      isAttached = false;
      await Promise.all(reads);
    }
    t.true(found.has(path));
  });
});

onNode('two processes that attach and detach continuously do not disturb each other', async (t) => {
  await onScratch(t, async ({ directory }) => {
    const script = join(import.meta.dirname, '..', '..', '..', 'helpers', 'loop-churn.js');
    const runs = ['one', 'other'].map(async (name) => {
      const own = join(directory, name);
      await mkdir(own);
      const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', UV_THREADPOOL_SIZE: '64' };
      const { stdout } = await promisify(execFile)(process.execPath, [script, own], {
        env,
        timeout: 60_000,
      });
      return JSON.parse(stdout) as unknown;
    });
    t.deepEqual(
      await Promise.all(runs),
      Array.from({ length: 2 }, () => ({ wrong: [], hasLeaks: false })),
    );
  });
});
