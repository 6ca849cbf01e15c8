import { MiB } from '../../../units.ts';
import { CommandError, hasErrno } from '../../errors.ts';
import type { Filesystem, LoopDevice, MakeOptions, Superblock } from '../../host.ts';
import { constants } from '../../kernel/abi.ts';
import { fallocate } from '../../kernel/calls.ts';
import { fsync, openFlags, withOpen } from '../../kernel/descriptor.ts';
import { imageTimeoutMs } from '../../kernel/time-limits.ts';
import type { Lane } from '../../lane.ts';
import type { Run } from '../../programs/run.ts';
import { assertGrown, growXfs } from '../grow.ts';
import { mergeFlags } from '../mkfs-flags.ts';
import { type PrivateMountDeps, type WorkOptions, withPrivateMount } from '../private-mount.ts';
import { readImage, readImageSize } from '../read-image.ts';
import { requireUuid } from '../uuid.ts';
import { parseXfsSuperblock, type XfsSuperblock, xfsSuperblockBytes } from './superblock.ts';

/** Minimum size that mkfs.xfs accepts. */
const xfsMinBytes = 300n * MiB;

/** mkfs writes a single record, the clean unmount, at the start of the log. It ends well before this offset. */
const logRecordBytes = 16n * 1024n;
/** Minimum number of blocks in an allocation group. mkfs and the kernel leave a shorter tail of the device unused. */
const minGroupBlocks = 64n;

/** XFS in images. Log replay and growth need a mount; for unattached images, a private mount. */
export class Xfs implements Filesystem {
  readonly type = 'xfs';
  readonly minBytes = xfsMinBytes;
  readonly minGrownBytes = xfsMinBytes;
  readonly maxGrowthFactor = undefined;
  readonly mountOptions: readonly string[] = [];
  readonly #lane: Lane;
  readonly #run: Run;
  readonly #deps: PrivateMountDeps;

  constructor(lane: Lane, run: Run, deps: PrivateMountDeps) {
    this.#lane = lane;
    this.#run = run;
    this.#deps = deps;
  }

  /** Creates the filesystem. mkfs.xfs syncs the image at its end, and `punchLog` syncs it again after punching. */
  async make(imagePath: string, options: MakeOptions): Promise<void> {
    const flags = mergeFlags(options.options, [
      { flag: '-m', value: `uuid=${requireUuid(options.uuid)}`, join: true },
    ]);
    const args = ['-q', '-f', '-K', '-s', `size=${options.sectorSize}`, ...flags, imagePath];
    await this.#run(this.#lane, 'mkfs.xfs', args, { timeoutMs: imageTimeoutMs, image: imagePath });
    if (!options.thick) await punchLog(this.#lane, imagePath);
  }

  /**
   * Only reading the whole log would show whether it has data, and mounting does that anyway. So the state of a sound
   * filesystem is always `needs-replay`, which is safe.
   */
  async readSuperblock(imagePath: string): Promise<Superblock | undefined> {
    const superblock = await readXfs(this.#lane, imagePath);
    if (superblock === undefined) return undefined;
    const { uuid, blocks, blockBytes, needsRepair, sectorBytes } = superblock;
    return {
      fsType: 'xfs',
      uuid,
      sizeBytes: blocks * BigInt(blockBytes),
      state: needsRepair ? 'has-errors' : 'needs-replay',
      maxSectorSize: sectorBytes === 4096 ? 4096 : 512,
    };
  }

  /**
   * Checks only the superblock: mounting replays the log and refuses a damaged filesystem. Nothing is repaired here.
   */
  async check(imagePath: string): ReturnType<Filesystem['check']> {
    const superblock = await readXfs(this.#lane, imagePath);
    if (superblock === undefined) {
      return { outcome: 'damaged', detail: 'no XFS superblock with a valid checksum' };
    }
    if (!superblock.needsRepair) return { outcome: 'sound' };
    return {
      outcome: 'damaged',
      detail: 'an earlier xfs_repair did not finish: run xfs_repair manually',
    };
  }

  /** There is never anything to undo: XFS is grown while mounted, so no program modifies an image in use. */
  recover(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async growMounted(target: string, device: LoopDevice, sizeBytes: bigint): Promise<'grown'> {
    await growXfs(this.#lane, target, device, sizeBytes);
    return 'grown';
  }

  async growUnmounted(imagePath: string, options: WorkOptions): Promise<void> {
    const sizeBytes = await readImageSize(this.#lane, imagePath);
    if (fillsImage(await readXfs(this.#lane, imagePath), sizeBytes)) return;
    const mount = { ...options, fsType: 'xfs', mountOptions: [] } as const;
    await withPrivateMount(this.#lane, this.#deps, imagePath, mount, async (target, device) => {
      await growXfs(this.#lane, target, device, sizeBytes);
    });
    assertGrown(fillsImage(await readXfs(this.#lane, imagePath), sizeBytes), imagePath, sizeBytes);
  }

  /**
   * Changes the UUID with xfs_db, which does so only if the log is clean. xfs_db exits with 0 even if it refuses, so
   * the superblock is checked afterwards.
   */
  async renewUuid(imagePath: string, options: WorkOptions & { uuid: string }): Promise<void> {
    const uuid = requireUuid(options.uuid);
    const mount = { ...options, fsType: 'xfs', mountOptions: [] } as const;
    await withPrivateMount(this.#lane, this.#deps, imagePath, mount);
    const args = ['-x', '-c', `uuid ${uuid}`, imagePath];
    const { stdout, stderr } = await this.#run(this.#lane, 'xfs_db', args, {
      timeoutMs: imageTimeoutMs,
      image: imagePath,
    });
    const after = await readXfs(this.#lane, imagePath);
    if (after?.uuid === uuid) return;
    throw new CommandError('xfs_db', {
      message: `xfs_db did not set UUID ${uuid} in ${imagePath}, which has ${after?.uuid ?? 'no valid superblock'}`,
      stderr: `${stderr}\n${stdout}`,
    });
  }
}

async function readXfs(lane: Lane, path: string): Promise<XfsSuperblock | undefined> {
  return parseXfsSuperblock(await readImage(lane, path, 0, xfsSuperblockBytes));
}

/** Whether the filesystem fills the image, except for a tail that is too small for an allocation group. */
function fillsImage(superblock: XfsSuperblock | undefined, sizeBytes: bigint): boolean {
  if (superblock === undefined) return false;
  const wanted = sizeBytes / BigInt(superblock.blockBytes);
  return wanted - superblock.blocks < minGroupBlocks;
}

/**
 * Punches a hole into the log, which mkfs.xfs fills with at least 64 MiB of zeroes: a hole reads the same and uses no
 * space. Only valid right after mkfs, while the log has only its first record.
 */
async function punchLog(lane: Lane, imagePath: string): Promise<void> {
  const superblock = await readXfs(lane, imagePath);
  if (superblock === undefined) {
    throw new CommandError('mkfs.xfs', {
      message: `mkfs.xfs left no valid superblock in ${imagePath}`,
    });
  }
  const range = {
    mode: constants.FALLOC_FL_PUNCH_HOLE | constants.FALLOC_FL_KEEP_SIZE,
    offset: superblock.logOffset + logRecordBytes,
    length: superblock.logBytes - logRecordBytes,
  };
  await withOpen(lane, imagePath, openFlags.readWrite, async (handle) => {
    try {
      await fallocate(lane, handle.fd, range, imagePath);
    } catch (error) {
      // A filesystem that does not support holes keeps the blocks.
      if (!hasErrno(error, 'EOPNOTSUPP')) throw error;
    }
    await fsync(lane, handle, imagePath);
  });
}
