import { rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MiB } from '../../src/units.ts';
import {
  attached,
  type ContractCase,
  errnoOf,
  makeDirectory,
  makeImage,
  mounted,
} from './contract-case.ts';

export const mountCases: readonly ContractCase[] = [
  {
    name: 'mounts: a mounted device is listed, and unmounting is idempotent',
    run: async (context) => {
      const { host, directory, equal } = context;
      const path = await makeImage(context, 'a');
      await attached(context, path, async (device) => {
        await mounted(context, device, async (target) => {
          const mount = await host.mounts.at(target);
          equal(
            [mount?.majorMinor, mount?.source, mount?.root, mount?.fsType],
            [device.majorMinor, device.path, '/', 'ext4'],
          );
          equal(mount?.superOptions.includes('rw'), true);
          equal((await host.mounts.list()).filter((one) => one.target === target).length, 1);
        });
        equal(await host.mounts.at(join(directory, 'staging')), undefined);
        await host.mounts.unmount(join(directory, 'staging'));
        await host.mounts.unmount(join(directory, 'absent', 'too'));
      });
    },
  },
  {
    name: 'mounts: errors of mounting',
    run: async (context) => {
      const { host, directory, equal } = context;
      const { mounts } = host;
      const path = await makeImage(context, 'a');
      const options = { fsType: 'ext4', options: [] } as const;
      await attached(context, path, async (device) => {
        const target = await makeDirectory(context, 'target');
        equal(
          await errnoOf(mounts.mountDevice(device.path, join(directory, 'no'), options)),
          'ENOENT',
        );
        equal(
          await errnoOf(mounts.mountDevice(device.path, target, { ...options, fsType: 'xfs' })),
          'EINVAL',
        );
        equal(
          await errnoOf(mounts.mountDevice(device.path, target, { ...options, options: ['a,b'] })),
          'EINVAL',
        );
        await symlink(target, join(directory, 'link'));
        equal(
          await errnoOf(mounts.mountDevice(device.path, join(directory, 'link'), options)),
          'ELOOP',
        );
        await mounted(context, device, async (staging) => {
          equal(await errnoOf(mounts.mountDevice(device.path, staging, options)), 'EBUSY');
          equal(
            await errnoOf(mounts.mountDevice(device.path, target, { ...options, options: ['ro'] })),
            'EBUSY',
          );
        });
      });
      await attached(
        context,
        path,
        async (device) => {
          const target = await makeDirectory(context, 'target');
          equal(await errnoOf(mounts.mountDevice(device.path, target, options)), 'EACCES');
        },
        { readOnly: true },
      );
    },
  },
  {
    name: 'mounts: an image shorter than its filesystem is refused',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      await truncate(path, Number(8n * MiB));
      const target = await makeDirectory(context, 'target');
      await attached(context, path, async (device) => {
        equal(
          await errnoOf(
            host.mounts.mountDevice(device.path, target, { fsType: 'ext4', options: [] }),
          ),
          'EINVAL',
        );
      });
    },
  },
  {
    name: 'mounts: a bind shows the same filesystem with its own options',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      const target = await makeDirectory(context, 'publish');
      await attached(context, path, (device) =>
        mounted(context, device, async (staging) => {
          await host.mounts.bind(staging, target, { readOnly: true, noSuid: true });
          const mount = await host.mounts.at(target);
          equal(
            [mount?.majorMinor, mount?.source, mount?.root],
            [device.majorMinor, device.path, '/'],
          );
          equal(
            ['ro', 'nosuid', 'noexec'].map((option) => mount?.options.includes(option)),
            [true, true, false],
          );
          equal((await host.mounts.at(staging))?.options.includes('rw'), true);
          equal(await errnoOf(host.mounts.removeTarget(target)), 'EBUSY');
          await host.mounts.unmount(target);
          equal(await host.mounts.at(target), undefined);
          equal((await host.mounts.at(staging)) === undefined, false);
        }),
      );
    },
  },
  {
    name: 'mounts: a device node is bound onto a file, and only onto a file',
    run: async (context) => {
      const { host, directory, equal } = context;
      const path = await makeImage(context, 'a');
      const target = join(directory, 'node');
      await attached(context, path, async (device) => {
        await host.mounts.makeTarget(target, 'file');
        await host.mounts.bind(device.path, target, { readOnly: false });
        const mount = await host.mounts.at(target);
        equal([mount?.root, mount?.fsType], [`/loop${device.number}`, 'devtmpfs']);
        await host.mounts.unmount(target);
        await host.mounts.removeTarget(target);
        equal(await errnoOf(host.mounts.bind(device.path, target, { readOnly: false })), 'ENOENT');
        equal(await errnoOf(host.mounts.bind(directory, path, { readOnly: false })), 'ENOTDIR');
      });
    },
  },
  {
    name: 'mounts: a filesystem stays active until its last unmount',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      const target = await makeDirectory(context, 'publish');
      await attached(context, path, async (device) => {
        await mounted(context, device, (staging) =>
          host.mounts.bind(staging, target, { readOnly: false }),
        );
        equal(await host.loops.isInUse(device), true);
        await host.mounts.unmount(target);
        equal(await host.loops.isInUse(device), false);
      });
    },
  },
  {
    name: 'mounts: targets are made once, and removed only when empty',
    run: async ({ host, directory, equal }) => {
      const { mounts } = host;
      const [folder, file] = [join(directory, 'folder'), join(directory, 'file')];
      for (let times = 0; times < 2; times += 1) {
        await mounts.makeTarget(folder, 'directory');
        await mounts.makeTarget(file, 'file');
      }
      equal([(await stat(folder)).isDirectory(), (await stat(file)).size], [true, 0]);
      equal(await errnoOf(mounts.makeTarget(file, 'directory')), 'ENOTDIR');
      equal(await errnoOf(mounts.makeTarget(folder, 'file')), 'EISDIR');
      equal(await errnoOf(mounts.makeTarget(join(directory, 'no', 'parent'), 'file')), 'ENOENT');
      await writeFile(join(folder, 'data'), '');
      equal(await errnoOf(mounts.removeTarget(folder)), 'ENOTEMPTY');
      await rm(join(folder, 'data'));
      await writeFile(file, 'data');
      equal(await errnoOf(mounts.removeTarget(file)), 'ENOTEMPTY');
      await writeFile(file, '');
      for (let times = 0; times < 2; times += 1) {
        await mounts.removeTarget(folder);
        await mounts.removeTarget(file);
      }
    },
  },
  {
    name: 'mounts: a symlink as target is refused, and below a root any symlink',
    run: async (context) => {
      const { host, equal } = context;
      const { mounts } = host;
      const root = await makeDirectory(context, 'root');
      const elsewhere = await makeDirectory(context, 'elsewhere');
      const source = await makeDirectory(context, 'source');
      await makeDirectory(context, 'elsewhere/target');
      await symlink(elsewhere, join(root, 'link'));
      const bind = (target: string, within?: string) =>
        errnoOf(mounts.bind(source, target, { readOnly: false, root: within }));
      equal(await bind(join(root, 'link')), 'ELOOP');
      equal(await bind(join(root, 'link', 'target'), root), 'ELOOP');
      equal(await bind(join(root, 'link'), root), 'ELOOP');
      equal(await bind(elsewhere, root), 'EXDEV');
      equal(
        await errnoOf(mounts.makeTarget(join(root, 'link', 'new'), 'directory', { root })),
        'ELOOP',
      );
      equal(await errnoOf(mounts.removeTarget(join(root, 'link', 'target'), { root })), 'ELOOP');
      equal(
        await errnoOf(mounts.makeTarget(join(root, '..', 'new'), 'directory', { root })),
        'EXDEV',
      );
      await mounts.makeTarget(join(root, 'good'), 'directory', { root });
      equal(await bind(join(root, 'good'), root), 'no error');
      await mounts.unmount(join(root, 'good'), { root });
      await mounts.removeTarget(join(root, 'good'), { root });
    },
  },
];
