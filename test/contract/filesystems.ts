import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { MiB } from '../../src/units.ts';
import {
  attached,
  type CaseContext,
  type ContractCase,
  errnoOf,
  makeImage,
  mounted,
  sizes,
} from './contract-case.ts';

export const filesystemCases: readonly ContractCase[] = [
  ...(['ext4', 'xfs', 'btrfs'] as const).map((fsType) => ({
    name: `filesystems: ${fsType} is made, identified, and grown while mounted`,
    run: async (context: CaseContext) => {
      const { host, equal } = context;
      const filesystem = host.filesystems[fsType];
      const [uuid, next] = [randomUUID(), randomUUID()];
      const path = await makeImage(context, 'a', fsType, uuid);
      const superblock = await filesystem.readSuperblock(path);
      equal([superblock?.fsType, superblock?.uuid], [fsType, uuid]);
      for (const other of ['ext4', 'xfs', 'btrfs'] as const) {
        if (other !== fsType) equal(await host.filesystems[other].readSuperblock(path), undefined);
      }
      // btrfs cannot be resized to less than 256 MiB.
      const sizeBytes = sizes[fsType] * 3n;
      await attached(context, path, (device) =>
        mounted(
          context,
          device,
          async (target) => {
            await host.files.growImage(path, { sizeBytes, allocate: false });
            await host.loops.refreshSize(device);
            const may = fsType !== 'ext4' || host.facts.canGrowExt4Online;
            equal(
              await filesystem.growMounted(target, device, sizeBytes),
              may ? 'grown' : 'not-permitted',
            );
            if (fsType === 'ext4') {
              equal(await host.filesystems.ext4.countErrors(device), 0);
            }
            equal(await host.mounts.thaw(target, device), false);
            equal(await errnoOf(host.mounts.thaw(context.directory, device)), 'ENODEV');
            equal(
              await errnoOf(
                host.mounts.trim(context.directory, device, { offset: 0n, length: 1n << 40n }),
              ),
              'ENODEV',
            );
          },
          fsType,
        ),
      );
      equal(await filesystem.check(path), { outcome: 'sound' });
      await filesystem.growUnmounted(path, { sectorSize: 4096, workDir: context.directory });
      await filesystem.renewUuid(path, {
        uuid: next,
        sectorSize: 4096,
        workDir: context.directory,
      });
      const grown = await filesystem.readSuperblock(path);
      equal([grown?.uuid, grown?.sizeBytes], [next, sizeBytes]);
    },
  })),
  {
    name: 'filesystems: an image that is too small is refused, and an empty one has no superblock',
    run: async ({ host, directory, equal }) => {
      const path = join(directory, 'small');
      const options = {
        sectorSize: 4096,
        thick: false,
        uuid: randomUUID(),
        options: [],
      } as const;
      await host.files.createImage(path, { sizeBytes: MiB, allocate: false });
      for (const fsType of ['xfs', 'btrfs'] as const) {
        const failed = await host.filesystems[fsType].make(path, options).then(
          () => false,
          () => true,
        );
        equal(failed, true, fsType);
      }
      equal(await host.filesystems.ext4.readSuperblock(path), undefined);
    },
  },
];
