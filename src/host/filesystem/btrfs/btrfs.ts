import { MiB } from '../../../units.ts';
import { CommandError } from '../../errors.ts';
import type { Filesystem, LoopDevice, MakeOptions, Superblock } from '../../host.ts';
import { imageTimeoutMs } from '../../kernel/time-limits.ts';
import type { Lane } from '../../lane.ts';
import type { Run } from '../../programs/run.ts';
import { assertGrown, growBtrfs } from '../grow.ts';
import { mergeFlags } from '../mkfs-flags.ts';
import { type PrivateMountDeps, type WorkOptions, withPrivateMount } from '../private-mount.ts';
import { readImage, readImageSize } from '../read-image.ts';
import { requireUuid } from '../uuid.ts';
import {
  type BtrfsSuperblock,
  btrfsSuperblockBytes,
  btrfsSuperblockOffset,
  parseBtrfsSuperblock,
} from './superblock.ts';

/** Minimum size that mkfs.btrfs accepts with duplicated metadata and single data. */
const btrfsMinBytes = 109n * MiB;

/** The sector size of btrfs. It is independent of the device's, which may be 512 or 4096. */
const sectorBytes = 4096n;

/** btrfs in images, each with a single device. */
export class Btrfs implements Filesystem {
  readonly type = 'btrfs';
  readonly minBytes = btrfsMinBytes;
  readonly minGrownBytes = 256n * MiB;
  readonly maxGrowthFactor = undefined;
  /**
   * Since Linux 6.2, btrfs discards continuously by default if the device supports it, but whether to trim is a setting
   * of the volume. A later `discard` option overrides this one.
   */
  readonly mountOptions: readonly string[] = ['nodiscard'];
  readonly #lane: Lane;
  readonly #run: Run;
  readonly #deps: PrivateMountDeps;
  readonly #allowsDuplicateUuid: boolean;

  /** `allowsDuplicateUuid`: the kernel can mount two filesystems with the same UUID (Linux 6.7 or later). */
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

  /**
   * Creates the filesystem. mkfs.btrfs syncs the image at its end. Metadata is duplicated, the default for a single
   * device.
   */
  async make(imagePath: string, options: MakeOptions): Promise<void> {
    const flags = mergeFlags(options.options, [
      { flag: '-U', value: requireUuid(options.uuid) },
      { flag: '--sectorsize', value: String(sectorBytes) },
      { flag: '-m', value: 'dup' },
      { flag: '-d', value: 'single' },
    ]);
    const args = ['-q', '-f', '-K', ...flags, imagePath];
    await this.#run(this.#lane, 'mkfs.btrfs', args, {
      timeoutMs: imageTimeoutMs,
      image: imagePath,
    });
  }

  async readSuperblock(imagePath: string): Promise<Superblock | undefined> {
    const superblock = await readBtrfs(this.#lane, imagePath);
    if (superblock === undefined) return undefined;
    return {
      fsType: 'btrfs',
      uuid: superblock.uuid,
      sizeBytes: superblock.totalBytes,
      state: superblock.hasLogTree ? 'needs-replay' : 'clean',
      maxSectorSize: 4096,
    };
  }

  /** Checks only the superblock: mounting checks the rest, and nothing is repaired automatically. */
  async check(imagePath: string): ReturnType<Filesystem['check']> {
    if ((await readBtrfs(this.#lane, imagePath)) !== undefined) return { outcome: 'sound' };
    return { outcome: 'damaged', detail: 'no btrfs superblock with a valid checksum' };
  }

  /** There is never anything to undo: btrfs is grown while mounted, so no program modifies an image in use. */
  recover(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async growMounted(target: string, device: LoopDevice): Promise<'grown'> {
    await growBtrfs(this.#lane, target, device);
    return 'grown';
  }

  async growUnmounted(imagePath: string, options: WorkOptions): Promise<void> {
    const sizeBytes = await readImageSize(this.#lane, imagePath);
    if (fillsImage(await readBtrfs(this.#lane, imagePath), sizeBytes)) return;
    await this.#mounted(imagePath, options, (target, device) =>
      growBtrfs(this.#lane, target, device),
    );
    assertGrown(
      fillsImage(await readBtrfs(this.#lane, imagePath), sizeBytes),
      imagePath,
      sizeBytes,
    );
  }

  /**
   * btrfstune -M changes the UUID that users see and leaves the metadata unchanged. If there is a log tree, the image
   * must first be mounted to replay it, possibly while the source of the copy is also mounted.
   */
  async renewUuid(imagePath: string, options: WorkOptions & { uuid: string }): Promise<void> {
    const uuid = requireUuid(options.uuid);
    if ((await readBtrfs(this.#lane, imagePath))?.hasLogTree === true) {
      if (!this.#allowsDuplicateUuid) {
        throw new CommandError('btrfstune', {
          message: `${imagePath} has a log to replay, which is not safe before Linux 6.7 while its source may be mounted: mount and unmount the source, then copy it again`,
        });
      }
      await this.#mounted(imagePath, options);
    }
    await this.#run(this.#lane, 'btrfstune', ['-M', uuid, imagePath], {
      timeoutMs: imageTimeoutMs,
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
    options: WorkOptions,
    work?: (target: string, device: LoopDevice) => Promise<void>,
  ): Promise<void> {
    const { type: fsType, mountOptions } = this;
    return withPrivateMount(
      this.#lane,
      this.#deps,
      imagePath,
      { ...options, fsType, mountOptions },
      work,
    );
  }
}

async function readBtrfs(lane: Lane, path: string): Promise<BtrfsSuperblock | undefined> {
  return parseBtrfsSuperblock(
    await readImage(lane, path, btrfsSuperblockOffset, btrfsSuperblockBytes),
  );
}

/** Whether the filesystem fills the image, except for a tail of less than a sector. */
function fillsImage(superblock: BtrfsSuperblock | undefined, sizeBytes: bigint): boolean {
  return superblock !== undefined && sizeBytes - superblock.totalBytes < sectorBytes;
}
