import { join } from 'node:path';
import { MiB } from '../../src/units.ts';
import {
  attached,
  attachOptions,
  type ContractCase,
  makeDirectory,
  makeImage,
  mounted,
} from './contract-case.ts';

/** How the kernel treats a device that other software uses too. */
export const otherSoftwareCases: readonly ContractCase[] = [
  {
    name: 'other software: LOOP_CLR_FD detaches a device that is not open, even if its node is bound',
    run: async (context) => {
      const { host, otherSoftware, directory, equal } = context;
      const path = await makeImage(context, 'a');
      const device = await host.loops.attach(path, attachOptions);
      const target = join(directory, 'node');
      await host.mounts.makeTarget(target, 'file');
      await host.mounts.bind(device.path, target, { readOnly: false });
      await otherSoftware.clearDevice(device.number);
      equal(await host.loops.findByImage(device.backing), []);
      equal((await host.mounts.at(target))?.root, `/loop${device.number}`);
      await host.mounts.unmount(target);
    },
  },
  {
    name: 'other software: LOOP_CLR_FD of an open device detaches it at its last close',
    run: async (context) => {
      const { host, otherSoftware, equal } = context;
      const path = await makeImage(context, 'a');
      const device = await host.loops.attach(path, attachOptions);
      const close = await otherSoftware.openDevice(device.number);
      equal(await host.loops.isInUse(device), false);
      await otherSoftware.clearDevice(device.number);
      const [present] = await host.loops.findByImage(device.backing);
      equal([present?.number, present?.autoclear], [device.number, true]);
      await close();
      equal(await host.loops.findByImage(device.backing), []);
    },
  },
  {
    name: 'other software: LOOP_CLR_FD of a mounted device detaches it at its last unmount',
    run: async (context) => {
      const { host, otherSoftware, equal } = context;
      const path = await makeImage(context, 'a');
      const device = await host.loops.attach(path, attachOptions);
      await mounted(context, device, async () => {
        await otherSoftware.clearDevice(device.number);
        const [present] = await host.loops.findByImage(device.backing);
        equal([present?.number, present?.autoclear], [device.number, true]);
      });
      equal(await host.loops.findByImage(device.backing), []);
    },
  },
  {
    name: 'other software: a filesystem that is mounted in another namespace claims its device',
    run: async (context) => {
      const { host, otherSoftware, equal } = context;
      const path = await makeImage(context, 'a');
      await attached(context, path, async (device) => {
        const stopUse = await mounted(context, device, (target) =>
          otherSoftware.mountElsewhere(target),
        );
        equal(await host.loops.isInUse(device), true);
        await stopUse();
        equal(await host.loops.isInUse(device), false);
      });
    },
  },
  {
    name: 'other software: a mount with an open file is busy',
    run: async (context) => {
      const { host, otherSoftware, equal } = context;
      const path = await makeImage(context, 'a');
      const publish = await makeDirectory(context, 'publish');
      await attached(context, path, (device) =>
        mounted(context, device, async (staging) => {
          await host.mounts.bind(staging, publish, { readOnly: false });
          const stopUse = await otherSoftware.openFile(publish);
          const failed = await host.mounts.unmount(publish).then(
            () => 'no error',
            (error: unknown) => (error as { errno?: unknown }).errno,
          );
          await stopUse();
          equal(failed, 'EBUSY');
          await host.mounts.unmount(publish);
        }),
      );
    },
  },
  {
    name: 'other software: images attached by the driver and by other software get different numbers',
    run: async (context) => {
      const { host, otherSoftware, directory, equal } = context;
      const path = await makeImage(context, 'a');
      const theirs = join(directory, 'theirs.img');
      await host.files.createImage(theirs, { sizeBytes: MiB, allocate: false });
      await attached(context, path, async (device) => {
        const number = await otherSoftware.attach(theirs);
        const again = await otherSoftware.attach(path);
        const found = await host.loops.findByImage(await host.files.imageStatus(theirs));
        equal(
          found.map((one) => one.number),
          [number],
        );
        const own = await host.loops.findByImage(device.backing);
        const lowestFirst = (numbers: readonly number[]) => [...numbers].sort((a, b) => a - b);
        equal(lowestFirst(own.map((one) => one.number)), lowestFirst([device.number, again]));
        await otherSoftware.clearDevice(number);
        await otherSoftware.clearDevice(again);
      });
    },
  },
];
