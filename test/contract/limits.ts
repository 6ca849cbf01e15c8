import { hasLimits, noLimits } from '../../src/host/loop/io-limits.ts';
import { MiB } from '../../src/units.ts';
import { attached, attachOptions, type ContractCase, makeImage, mounted } from './contract-case.ts';

const some = { ...noLimits, writeBytesPerSecond: MiB, readIops: 500n };

/** Limits of devices. They need a cgroup, which a machine with cgroup v1 lacks. */
export const limitCases: readonly ContractCase[] = [
  {
    name: 'limits: those of a device are set, replaced and removed, and others are kept',
    run: async (context) => {
      const { host, equal } = context;
      const { deviceLimits } = host;
      equal('path' in (await deviceLimits.findCgroup()), true);
      await attached(context, await makeImage(context, 'a'), async (a) => {
        await attached(context, await makeImage(context, 'b'), async (b) => {
          const limitsOf = async () => {
            const found = await deviceLimits.list();
            return [found.get(a.majorMinor), found.get(b.majorMinor)];
          };
          equal(await limitsOf(), [undefined, undefined]);
          await deviceLimits.set(a.majorMinor, some);
          await deviceLimits.set(b.majorMinor, { ...noLimits, readBytesPerSecond: 65_536n });
          equal(await limitsOf(), [some, { ...noLimits, readBytesPerSecond: 65_536n }]);
          await deviceLimits.set(a.majorMinor, { ...noLimits, writeIops: 10n });
          await deviceLimits.set(b.majorMinor, noLimits);
          equal(await limitsOf(), [{ ...noLimits, writeIops: 10n }, undefined]);
        });
      });
    },
  },
  {
    name: 'limits: a detached device has none, nor does the next one with its number',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      const device = await host.loops.attach(path, attachOptions);
      await host.deviceLimits.set(device.majorMinor, some);
      equal(await host.loops.detach(device), 'detached');
      equal((await host.deviceLimits.list()).has(device.majorMinor), false);
      // As if another process had detached the device.
      await host.deviceLimits.set(device.majorMinor, some);
      await attached(context, path, async (next) => {
        equal(next.majorMinor, device.majorMinor);
        equal((await host.deviceLimits.list()).has(next.majorMinor), false);
      });
    },
  },
  {
    name: 'limits: those of a device that is still in use are put back',
    run: async (context) => {
      const { host, equal } = context;
      await attached(context, await makeImage(context, 'a'), async (device) => {
        await mounted(context, device, async () => {
          await host.deviceLimits.set(device.majorMinor, some);
          equal(await host.loops.detach(device), 'in-use');
          const found = (await host.deviceLimits.list()).get(device.majorMinor);
          equal(found !== undefined && hasLimits(found), true);
          equal(found, some);
        });
      });
    },
  },
];
