import { join } from 'node:path';
import { MiB } from '../../src/units.ts';
import {
  attached,
  attachOptions,
  type ContractCase,
  errnoOf,
  makeImage,
  mounted,
  sizes,
} from './stage.ts';

export const loopCases: readonly ContractCase[] = [
  {
    name: 'loops: a device is found by the inode of its image, also after a rename',
    run: async (stage) => {
      const { host, directory, equal } = stage;
      const path = await makeImage(stage, 'a');
      await attached(stage, path, async (device) => {
        const moved = join(directory, 'moved.img');
        await host.files.renameNoReplace(path, moved);
        const found = await host.loops.findByImage(await host.files.imageStatus(moved));
        equal(found, [device]);
        equal([device.sectorSize, device.readOnly, device.autoclear], [4096, false, false]);
        equal([device.sizeBytes, device.mark], [sizes.ext4, 'loopcsi:contract']);
        equal(
          (await host.loops.list()).filter(({ number }) => number === device.number),
          [device],
        );
      });
    },
  },
  {
    name: 'loops: detached is detached, also twice, and nothing is found',
    run: async (stage) => {
      const { host, equal } = stage;
      const path = await makeImage(stage, 'a');
      const device = await host.loops.attach(path, attachOptions);
      equal(await host.loops.detach(device), 'detached');
      equal(await host.loops.detach(device), 'detached');
      equal(await host.loops.findByImage(await host.files.imageStatus(path)), []);
      equal(await host.loops.isInUse(device), false);
    },
  },
  {
    name: 'loops: an absent image cannot be attached',
    run: async ({ host, directory, equal }) => {
      equal(await errnoOf(host.loops.attach(join(directory, 'none'), attachOptions)), 'ENOENT');
    },
  },
  {
    name: 'loops: a read-only device comes after the read-write one, and says so',
    run: async (stage) => {
      const { host, equal } = stage;
      const path = await makeImage(stage, 'a');
      await attached(
        stage,
        path,
        (readOnly) =>
          attached(stage, path, async (readWrite) => {
            const found = await host.loops.findByImage(await host.files.imageStatus(path));
            equal(found, [readWrite, readOnly]);
            equal([readWrite.readOnly, readOnly.readOnly], [false, true]);
          }),
        { readOnly: true },
      );
    },
  },
  {
    name: 'loops: a device takes a grown image’s size when it is told',
    run: async (stage) => {
      const { host, equal } = stage;
      const path = await makeImage(stage, 'a');
      await attached(stage, path, async (device) => {
        await host.files.growImage(path, { sizeBytes: 32n * MiB, allocate: false });
        const size = async () => (await host.loops.findByImage(device.backing))[0]?.sizeBytes;
        equal(await size(), sizes.ext4);
        await host.loops.refreshSize(device);
        equal(await size(), 32n * MiB);
      });
    },
  },
  {
    name: 'loops: what is done to a device that is another image’s by now is refused',
    run: async (stage) => {
      const { host, equal } = stage;
      const path = await makeImage(stage, 'a');
      await attached(stage, path, async (device) => {
        const stale = {
          ...device,
          backing: { ...device.backing, inode: device.backing.inode + 1n },
        };
        equal(await errnoOf(host.loops.refreshSize(stale)), 'ENXIO');
        equal(await host.loops.detach(stale), 'detached');
        equal((await host.loops.findByImage(device.backing)).length, 1);
      });
    },
  },
  {
    name: 'loops: a mounted device stays until its unmount, and then goes by itself',
    run: async (stage) => {
      const { host, equal } = stage;
      const path = await makeImage(stage, 'a');
      const device = await host.loops.attach(path, attachOptions);
      await mounted(stage, device, async () => {
        equal(await host.loops.isInUse(device), true);
        equal(await host.loops.detach(device), 'in-use');
        equal(
          (await host.loops.findByImage(device.backing)).map(({ autoclear }) => autoclear),
          [true],
        );
      });
      equal(await host.loops.findByImage(device.backing), []);
    },
  },
  {
    name: 'loops: an autoclear device lives until it is released, or unmounted',
    run: async (stage) => {
      const { host, equal } = stage;
      const path = await makeImage(stage, 'a');
      const options = { ...attachOptions, autoclear: true };
      const first = await host.loops.attach(path, options);
      equal((await host.loops.findByImage(first.backing)).length, 1);
      await host.loops.release(first);
      equal(await host.loops.findByImage(first.backing), []);
      const second = await host.loops.attach(path, options);
      await mounted(stage, second, async () => {
        await host.loops.release(second);
        await host.loops.release(second);
        equal((await host.loops.findByImage(second.backing)).length, 1);
      });
      equal(await host.loops.findByImage(second.backing), []);
    },
  },
  {
    name: 'loops: an autoclear device is not let go by somebody who had its number before',
    run: async (stage) => {
      const { host, equal } = stage;
      const options = { ...attachOptions, autoclear: true };
      const [one, other] = [await makeImage(stage, 'a'), await makeImage(stage, 'b')];
      const first = await host.loops.attach(one, options);
      await host.loops.release(first);
      equal(await host.loops.findByImage(first.backing), []);
      const second = await host.loops.attach(other, options);
      // Most likely so already; the number is free for other processes too.
      const stale = { ...first, number: second.number, path: second.path };
      await host.loops.release(stale);
      equal(await host.loops.detach(stale), 'detached');
      equal((await host.loops.findByImage(second.backing)).length, 1);
      equal(await host.loops.detach(second), 'detached');
    },
  },
];
