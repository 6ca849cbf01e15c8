import { MiB } from '../../../units.ts';
import { CommandError } from '../../errors.ts';
import type { Filesystem, LoopDevice, MakeOptions, SectorSize, Superblock } from '../../host.ts';
import type { Lane } from '../../lane.ts';
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

/** Minimum of mkfs.btrfs with duplicated metadata and single data. */
export const btrfsMinBytes = 109n * MiB;

const minute = 60_000;

/** The unit of btrfs, independent of the sector size of the device; it works with 512 and 4096. */
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
   * Since Linux 6.2 btrfs discards continuously by default if the device can; trimming is the choice of the volume. A
   * later `discard` option overrides this one.
   */
  readonly mountOptions: readonly string[] = ['nodiscard'];
  readonly #lane: Lane;
  readonly #run: Run;
  readonly #deps: PrivateMountDeps;
  readonly #allowsDuplicateUuid: boolean;

  /** `allowsDuplicateUuid`: the kernel (6.7 or later) can mount two filesystems with one UUID. */
  constructor(
    lane: Lane,
    run: Run,
    deps: PrivateMountDeps,
    { allowsDuplicateUuid }: { allowsDuplicateUuid: boolean },
  ) {
    this.#lane = lane;
    this.#run = run;
    this.#deps = deps;
    this.#allowsDuplicateUuid = allowsDuplicateUuid;
  }

  /** mkfs.btrfs ends with an fsync of the image. Metadata is duplicated, the default for one disk. */
  async make(imagePath: string, options: MakeOptions): Promise<void> {
    const flags = mergeFlags(options.options, [
      { flag: '-U', value: requireUuid(options.uuid) },
      { flag: '--sectorsize', value: String(sectorBytes) },
      { flag: '-m', value: 'dup' },
      { flag: '-d', value: 'single' },
    ]);
    const args = ['-q', '-f', '-K', ...flags, imagePath];
    await this.#run(this.#lane, 'mkfs.btrfs', args, { timeoutMs: 10 * minute, image: imagePath });
  }

  async readSuperblock(imagePath: string): Promise<Superblock | undefined> {
    const superblock = await readBtrfs(this.#lane, imagePath);
    if (superblock === undefined) return undefined;
    return {
      fsType: 'btrfs',
      uuid: superblock.uuid,
      sizeBytes: superblock.totalBytes,
      state: superblock.hasLogTree ? 'needs-replay' : 'clean',
    };
  }

  /** The mount checks the filesystem; nothing is repaired automatically. */
  async check(imagePath: string): ReturnType<Filesystem['check']> {
    if ((await readBtrfs(this.#lane, imagePath)) !== undefined) return { outcome: 'sound' };
    return { outcome: 'damaged', detail: 'no btrfs superblock with a valid checksum' };
  }

  /** Nothing to undo: no program changes a btrfs in use, since it grows while mounted. */
  recover(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async growMounted(target: string, device: LoopDevice): Promise<'grown'> {
    await growBtrfs(this.#lane, target, device);
    return 'grown';
  }

  countErrors(): Promise<number> {
    return Promise.resolve(0);
  }

  async growUnmounted(imagePath: string, options: WorkOptions): Promise<void> {
    const sizeBytes = await imageBytes(this.#lane, imagePath);
    if (fills(await readBtrfs(this.#lane, imagePath), sizeBytes)) return;
    await this.#mounted(imagePath, options, (target, device) =>
      growBtrfs(this.#lane, target, device),
    );
    assertGrown(fills(await readBtrfs(this.#lane, imagePath), sizeBytes), imagePath, sizeBytes);
  }

  /**
   * btrfstune -M changes the UUID that users see and leaves the metadata alone. A log tree must be replayed first, by a
   * mount, while the source of the copy may be mounted too.
   */
  async renewUuid(imagePath: string, options: WorkOptions & { uuid: string }): Promise<void> {
    const uuid = requireUuid(options.uuid);
    if ((await readBtrfs(this.#lane, imagePath))?.hasLogTree === true) {
      if (!this.#allowsDuplicateUuid) {
        throw new CommandError('btrfstune', {
          message: `${imagePath} has a log to replay, which is not safe before Linux 6.7 while its source may be mounted: mount and unmount the source once, then copy it again`,
        });
      }
      await this.#mounted(imagePath, options);
    }
    await this.#run(this.#lane, 'btrfstune', ['-M', uuid, imagePath], {
      timeoutMs: 10 * minute,
      image: imagePath,
    });
    const after = await readBtrfs(this.#lane, imagePath);
    if (after?.uuid === uuid) return;
    throw new CommandError('btrfstune', {
      message: `btrfstune did not set UUID ${uuid} in ${imagePath}, which has ${after?.uuid ?? 'no valid superblock'}`,
    });
  }

  #mounted(
    imagePath: string,
    { sectorSize, workDir }: WorkOptions,
    work?: (target: string, device: LoopDevice) => Promise<void>,
  ): Promise<void> {
    const options = { fsType: 'btrfs', sectorSize, workDir, mountOptions: this.mountOptions };
    return withPrivateMount(
      this.#lane,
      this.#deps,
      imagePath,
      { ...options, fsType: this.type },
      work,
    );
  }
}

async function readBtrfs(lane: Lane, path: string): Promise<BtrfsSuperblock | undefined> {
  return parseBtrfsSuperblock(await readImage(lane, path, btrfsSuperblockAt, btrfsSuperblockBytes));
}

/** Whether the filesystem uses the whole image, as far as it can. */
function fills(superblock: BtrfsSuperblock | undefined, sizeBytes: bigint): boolean {
  return superblock !== undefined && sizeBytes - superblock.totalBytes < sectorBytes;
}
