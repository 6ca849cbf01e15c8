import { MiB } from '../../../units.ts';
import { CommandError } from '../../errors.ts';
import type { Filesystem, LoopDevice, MakeOptions, SectorSize, Superblock } from '../../host.ts';
import type { Run } from '../../programs/run.ts';
import { assertGrown, growBtrfs } from '../grow.ts';
import { mergeFlags } from '../mkfs-flags.ts';
import { type PrivateMountDeps, withPrivateMount } from '../private-mount.ts';
import { imageBytes, readImage } from '../read-image.ts';
import { requireUuid } from '../uuid.ts';
import {
  type BtrfsSuperblock,
  btrfsSuperblockAt,
  btrfsSuperblockBytes,
  parseBtrfsSuperblock,
} from './superblock.ts';

/** What mkfs.btrfs needs with metadata twice and data once. */
export const btrfsMinBytes = 109n * MiB;

const minute = 60_000;

/** btrfs counts in these whatever the device's sectors are; it works on 512 and 4096 alike. */
const sectorBytes = 4096n;

interface WorkOptions {
  readonly sectorSize: SectorSize;
  readonly workDir: string;
}

/** btrfs on images, one device each. */
export class Btrfs implements Filesystem {
  readonly type = 'btrfs';
  readonly minBytes = btrfsMinBytes;
  readonly minGrownBytes = 256n * MiB;
  /**
   * Since Linux 6.2 a device that can discard is discarded from all the time unless told otherwise;
   * trimming is the volume's choice. A later `discard` word wins over this one.
   */
  readonly mountOptions: readonly string[] = ['nodiscard'];
  readonly #run: Run;
  readonly #deps: PrivateMountDeps;
  readonly #allowsDuplicateUuid: boolean;

  /** `allowsDuplicateUuid`: a kernel of 6.7 or later, which keeps two filesystems with one UUID apart. */
  constructor(
    run: Run,
    deps: PrivateMountDeps,
    { allowsDuplicateUuid }: { allowsDuplicateUuid: boolean },
  ) {
    this.#run = run;
    this.#deps = deps;
    this.#allowsDuplicateUuid = allowsDuplicateUuid;
  }

  /** mkfs.btrfs ends with an fsync of the image. Metadata are kept twice, as by default on one disk. */
  async make(imagePath: string, options: MakeOptions): Promise<void> {
    const flags = mergeFlags(options.options, [
      { flag: '-U', value: requireUuid(options.uuid) },
      { flag: '--sectorsize', value: String(sectorBytes) },
      { flag: '-m', value: 'dup' },
      { flag: '-d', value: 'single' },
    ]);
    const args = ['-q', '-f', '-K', ...flags, imagePath];
    await this.#run('mkfs.btrfs', args, { timeoutMs: 10 * minute, image: imagePath });
  }

  async readSuperblock(imagePath: string): Promise<Superblock | undefined> {
    const superblock = await readBtrfs(imagePath);
    if (superblock === undefined) return undefined;
    return {
      fsType: 'btrfs',
      uuid: superblock.uuid,
      sizeBytes: superblock.totalBytes,
      state: superblock.hasLogTree ? 'needs-replay' : 'clean',
    };
  }

  /** The mount is the check; nothing is ever repaired automatically. */
  async check(imagePath: string): ReturnType<Filesystem['check']> {
    if ((await readBtrfs(imagePath)) !== undefined) return { outcome: 'sound' };
    return { outcome: 'damaged', detail: 'no btrfs superblock whose checksum holds' };
  }

  /** No program changes a btrfs that anybody has: it grows while it is mounted. */
  recover(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async growMounted(target: string, device: LoopDevice): Promise<'grown'> {
    await growBtrfs(target, device);
    return 'grown';
  }

  async growImage(imagePath: string, options: WorkOptions): Promise<void> {
    const sizeBytes = await imageBytes(imagePath);
    if (fills(await readBtrfs(imagePath), sizeBytes)) return;
    await this.#mounted(imagePath, options, growBtrfs);
    assertGrown(fills(await readBtrfs(imagePath), sizeBytes), imagePath, sizeBytes);
  }

  /**
   * btrfstune -M changes the UUID that users see and leaves the metadata alone. Only a log tree has
   * to be replayed before, by a mount beside a source that may be mounted too.
   */
  async renewUuid(imagePath: string, options: WorkOptions & { uuid: string }): Promise<void> {
    const uuid = requireUuid(options.uuid);
    if ((await readBtrfs(imagePath))?.hasLogTree === true) {
      if (!this.#allowsDuplicateUuid) {
        throw new CommandError('btrfstune', {
          message: `${imagePath} has a log to replay, which before Linux 6.7 is not safe beside its source: mount and unmount the source once, then copy it again`,
        });
      }
      await this.#mounted(imagePath, options);
    }
    await this.#run('btrfstune', ['-M', uuid, imagePath], {
      timeoutMs: 10 * minute,
      image: imagePath,
    });
    const after = await readBtrfs(imagePath);
    if (after?.uuid === uuid) return;
    throw new CommandError('btrfstune', {
      message: `btrfstune left ${imagePath} with the UUID ${after?.uuid ?? 'of no filesystem'}`,
    });
  }

  #mounted(
    imagePath: string,
    { sectorSize, workDir }: WorkOptions,
    work?: (target: string, device: LoopDevice) => Promise<void>,
  ): Promise<void> {
    const options = { fsType: 'btrfs', sectorSize, workDir, mountOptions: this.mountOptions };
    return withPrivateMount(this.#deps, imagePath, { ...options, fsType: this.type }, work);
  }
}

async function readBtrfs(path: string): Promise<BtrfsSuperblock | undefined> {
  return parseBtrfsSuperblock(await readImage(path, btrfsSuperblockAt, btrfsSuperblockBytes));
}

/** Whether the filesystem has all of the image that it can use. */
function fills(superblock: BtrfsSuperblock | undefined, sizeBytes: bigint): boolean {
  return superblock !== undefined && sizeBytes - superblock.totalBytes < sectorBytes;
}
