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
} from './contract-case.ts';

export const loopCases: readonly ContractCase[] = [
  {
    name: 'loops: a device is found by the inode of its image, even after a rename',
    run: async (context) => {
      const { host, directory, equal } = context;
      const path = await makeImage(context, 'a');
      await attached(context, path, async (device) => {
        const moved = join(directory, 'moved.img');
        await host.files.renameNoReplace(path, moved);
        const found = await host.loops.findByImage(await host.files.imageStatus(moved));
        equal(found, [device]);
        equal([device.sectorSize, device.readOnly, device.autoclear], [4096, false, false]);
        equal([device.sizeBytes, device.label], [sizes.ext4, 'loopcsi:contract']);
        equal(
          (await host.loops.list()).filter(({ number }) => number === device.number),
          [device],
        );
      });
    },
  },
  {
    name: 'loops: a detached device is not found, and can be detached again',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      const device = await host.loops.attach(path, attachOptions);
      equal(await host.loops.detach(device), 'detached');
      equal(await host.loops.detach(device), 'detached');
      equal(await host.loops.findByImage(await host.files.imageStatus(path)), []);
      equal(await host.loops.isInUse(device), false);
    },
  },
  {
    name: 'loops: the I/O of a device is counted from its attach on',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      await attached(context, path, async (device) => {
        const found = (await host.loops.listWithIo()).filter(
          (one) => one.device.number === device.number,
        );
        equal(
          found.map((one) => [one.device, one.io.writes, one.io.writtenBytes]),
          [[device, 0, 0n]],
        );
      });
      const image = await host.files.imageStatus(path);
      const left = await host.loops.listWithIo();
      equal(
        left.some(({ device: { backing } }) => backing.inode === image.inode),
        false,
      );
    },
  },
  {
    name: 'loops: a missing image cannot be attached',
    run: async ({ host, directory, equal }) => {
      equal(await errnoOf(host.loops.attach(join(directory, 'none'), attachOptions)), 'ENOENT');
    },
  },
  {
    name: 'loops: a read-only device is listed after the read-write one',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      await attached(
        context,
        path,
        (readOnly) =>
          attached(context, path, async (readWrite) => {
            const found = await host.loops.findByImage(await host.files.imageStatus(path));
            equal(found, [readWrite, readOnly]);
            equal([readWrite.readOnly, readOnly.readOnly], [false, true]);
          }),
        { readOnly: true },
      );
    },
  },
  {
    name: 'loops: a device gets the size of its grown image on request',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      await attached(context, path, async (device) => {
        await host.files.growImage(path, { sizeBytes: 32n * MiB, allocate: false });
        const size = async () => (await host.loops.findByImage(device.backing))[0]?.sizeBytes;
        equal(await size(), sizes.ext4);
        await host.loops.refreshSize(device);
        equal(await size(), 32n * MiB);
      });
    },
  },
  {
    name: 'loops: operations on a device that has another image now are refused',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      await attached(context, path, async (device) => {
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
    name: 'loops: a mounted device is not detached, not even after its unmount',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      const device = await host.loops.attach(path, attachOptions);
      await mounted(context, device, async () => {
        equal(await host.loops.isInUse(device), true);
        equal(await host.loops.detach(device), 'in-use');
        equal(
          (await host.loops.findByImage(device.backing)).map(({ autoclear }) => autoclear),
          [false],
        );
      });
      equal(await host.loops.findByImage(device.backing), [device]);
      equal(await host.loops.detach(device), 'detached');
    },
  },
  {
    name: 'loops: a mounted device that may be detached later is detached at its unmount',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      const device = await host.loops.attach(path, attachOptions);
      await mounted(context, device, async () => {
        equal(await host.loops.detach(device, { later: true }), 'in-use');
        const [flagged] = await host.loops.findByImage(device.backing);
        equal(flagged?.autoclear, true);
        equal(
          (await host.loops.listAutoclear()).filter(({ number }) => number === device.number),
          [flagged],
        );
      });
      equal(await host.loops.findByImage(device.backing), []);
    },
  },
  {
    name: 'loops: only the driver detaches a device that it has open; requests of other software are undone',
    run: async (context) => {
      const { host, equal, otherSoftware } = context;
      const path = await makeImage(context, 'a');
      for (const isHeldFromTheStart of [true, false]) {
        const hold = isHeldFromTheStart;
        const device = await host.loops.attach(path, { ...attachOptions, hold });
        if (!hold) equal(await host.loops.hold(device), true);
        equal(await host.loops.isInUse(device), false);
        await otherSoftware.clearDevice(device.number);
        const found = () => host.loops.findByImage(device.backing);
        equal(
          (await found()).map(({ autoclear }) => autoclear),
          [true],
        );
        equal(await host.loops.clearAutoclear(device), true);
        equal(await found(), [device]);
        await host.loops.release(device);
        equal(await found(), [device]);
        equal(await host.loops.hold(device), true);
        await host.loops.writeBack(device);
        equal(await host.loops.detach(device), 'detached');
        equal(
          [await host.loops.clearAutoclear(device), await host.loops.hold(device)],
          [false, false],
        );
      }
    },
  },
  {
    name: 'loops: undoing a detach changes nothing else of a device',
    run: async (context) => {
      const { host, equal, otherSoftware } = context;
      const path = await makeImage(context, 'a');
      for (const readOnly of [true, false]) {
        const device = await host.loops.attach(path, { ...attachOptions, readOnly, hold: true });
        await otherSoftware.clearDevice(device.number);
        equal(await host.loops.hold(device), true);
        equal(await host.loops.at(device.number), device);
        equal(await host.loops.detach(device), 'detached');
        equal(await host.loops.findByImage(device.backing), []);
      }
    },
  },
  {
    name: 'loops: no device gets a number whose node is bound',
    run: async (context) => {
      const { host, directory, equal } = context;
      const [one, other] = [await makeImage(context, 'a'), await makeImage(context, 'b')];
      const lost = await host.loops.attach(one, attachOptions);
      const target = join(directory, 'node');
      await host.mounts.makeTarget(target, 'file');
      await host.mounts.bind(lost.path, target, { readOnly: false });
      equal(await host.loops.detach(lost), 'detached');
      for (const hasSeen of [true, false]) {
        const mounts = hasSeen ? await host.mounts.list() : undefined;
        await attached(
          context,
          other,
          async (device) => {
            equal(device.number === lost.number, false);
          },
          { mounts },
        );
      }
      await host.mounts.unmount(target);
    },
  },
  {
    name: 'loops: the number of a device that was held is not reused at once',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      const given = await host.loops.attach(path, { ...attachOptions, hold: true });
      equal(await host.loops.detach(given), 'detached');
      for (let times = 0; times < 3; times += 1) {
        await attached(context, path, async (device) => {
          equal(device.number === given.number, false);
        });
      }
    },
  },
  {
    name: 'loops: an autoclear device lives until it is released, or unmounted',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      const options = { ...attachOptions, autoclear: true };
      const first = await host.loops.attach(path, options);
      equal((await host.loops.findByImage(first.backing)).length, 1);
      await host.loops.release(first);
      equal(await host.loops.findByImage(first.backing), []);
      const second = await host.loops.attach(path, options);
      await mounted(context, second, async () => {
        await host.loops.release(second);
        await host.loops.release(second);
        equal((await host.loops.findByImage(second.backing)).length, 1);
      });
      equal(await host.loops.findByImage(second.backing), []);
    },
  },
  {
    name: 'loops: releasing an earlier device with the same number does not release an autoclear device',
    run: async (context) => {
      const { host, equal } = context;
      const options = { ...attachOptions, autoclear: true };
      const [one, other] = [await makeImage(context, 'a'), await makeImage(context, 'b')];
      const first = await host.loops.attach(one, options);
      await host.loops.release(first);
      equal(await host.loops.findByImage(first.backing), []);
      const second = await host.loops.attach(other, options);
      // The number is probably reused already, but it is free for other processes too.
      const stale = { ...first, number: second.number, path: second.path };
      await host.loops.release(stale);
      equal(await host.loops.detach(stale), 'detached');
      equal((await host.loops.findByImage(second.backing)).length, 1);
      equal(await host.loops.detach(second), 'detached');
    },
  },
];
