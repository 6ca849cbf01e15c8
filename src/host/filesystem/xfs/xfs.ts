import { MiB } from '../../../units.ts';
import { CommandError, hasErrno } from '../../errors.ts';
import type { Filesystem, LoopDevice, MakeOptions, SectorSize, Superblock } from '../../host.ts';
import { constants } from '../../kernel/abi.ts';
import { fallocate } from '../../kernel/calls.ts';
import { fsync, openFlags, withOpen } from '../../kernel/descriptor.ts';
import type { Lane } from '../../lane.ts';
import type { Run } from '../../programs/run.ts';
import { assertGrown, growXfs } from '../grow.ts';
import { mergeFlags } from '../mkfs-flags.ts';
import { type PrivateMountDeps, withPrivateMount } from '../private-mount.ts';
import { imageBytes, readImage } from '../read-image.ts';
import { requireUuid } from '../uuid.ts';
import { parseXfsSuperblock, type XfsSuperblock, xfsSuperblockBytes } from './superblock.ts';

/** mkfs.xfs refuses anything smaller. */
export const xfsMinBytes = 300n * MiB;

const minute = 60_000;
/** mkfs writes one record, the clean unmount, at the start of the log; it ends well before this. */
const logRecordBytes = 16n * 1024n;
/** The kernel and mkfs leave a tail of fewer blocks unused: allocation groups have at least this many. */
const minGroupBlocks = 64n;

interface WorkOptions {
  readonly sectorSize: SectorSize;
  readonly workDir: string;
}

/** XFS on images. Log replay and growth need a mount; offline, a private mount does both. */
export class Xfs implements Filesystem {
  readonly type = 'xfs';
  readonly minBytes = xfsMinBytes;
  readonly minGrownBytes = xfsMinBytes;
  readonly mountOptions: readonly string[] = [];
  readonly #lane: Lane;
  readonly #run: Run;
  readonly #deps: PrivateMountDeps;

  constructor(lane: Lane, run: Run, deps: PrivateMountDeps) {
    this.#lane = lane;
    this.#run = run;
    this.#deps = deps;
  }

  /** mkfs.xfs ends with an fsync of the image; punching the log is synced here. */
  async make(imagePath: string, options: MakeOptions): Promise<void> {
    const flags = mergeFlags(options.options, [
      { flag: '-m', value: `uuid=${requireUuid(options.uuid)}`, join: true },
    ]);
    const args = ['-q', '-f', '-K', '-s', `size=${options.sectorSize}`, ...flags, imagePath];
    await this.#run(this.#lane, 'mkfs.xfs', args, { timeoutMs: 10 * minute, image: imagePath });
    if (!options.thick) await punchLog(this.#lane, imagePath);
  }

  /**
   * Only a walk through the log shows whether it has data, and the mount does that anyway. So the state is always
   * `needs-replay`, which is safe.
   */
  async readSuperblock(imagePath: string): Promise<Superblock | undefined> {
    const superblock = await readXfs(this.#lane, imagePath);
    if (superblock === undefined) return undefined;
    const { uuid, blocks, blockBytes, needsRepair } = superblock;
    return {
      fsType: 'xfs',
      uuid,
      sizeBytes: blocks * BigInt(blockBytes),
      state: needsRepair ? 'has-errors' : 'needs-replay',
    };
  }

  /** The mount checks the filesystem: it replays the log and refuses a damaged one. Nothing is repaired here. */
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

  /** Nothing to undo: no program changes an XFS in use, since it grows while mounted. */
  recover(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async growMounted(target: string, device: LoopDevice, sizeBytes: bigint): Promise<'grown'> {
    await growXfs(this.#lane, target, device, sizeBytes);
    return 'grown';
  }

  countErrors(): Promise<number> {
    return Promise.resolve(0);
  }

  async growUnmounted(imagePath: string, options: WorkOptions): Promise<void> {
    const sizeBytes = await imageBytes(this.#lane, imagePath);
    if (fills(await readXfs(this.#lane, imagePath), sizeBytes)) return;
    const mount = { ...options, fsType: 'xfs', mountOptions: [] } as const;
    await withPrivateMount(this.#lane, this.#deps, imagePath, mount, async (target, device) => {
      await growXfs(this.#lane, target, device, sizeBytes);
    });
    assertGrown(fills(await readXfs(this.#lane, imagePath), sizeBytes), imagePath, sizeBytes);
  }

  /**
   * xfs_db changes the UUID only if the log is clean, and exits with 0 even if it refused. So the superblock is
   * checked.
   */
  async renewUuid(imagePath: string, options: WorkOptions & { uuid: string }): Promise<void> {
    const uuid = requireUuid(options.uuid);
    // The only mount with `nouuid`: a fresh copy replays its log while its source may be mounted.
    const mount = { ...options, fsType: 'xfs', mountOptions: ['nouuid'] } as const;
    await withPrivateMount(this.#lane, this.#deps, imagePath, mount);
    const args = ['-x', '-c', `uuid ${uuid}`, imagePath];
    const { stdout, stderr } = await this.#run(this.#lane, 'xfs_db', args, {
      timeoutMs: 10 * minute,
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

/** Whether the filesystem uses the whole image, as far as it can. */
function fills(superblock: XfsSuperblock | undefined, sizeBytes: bigint): boolean {
  if (superblock === undefined) return false;
  const wanted = sizeBytes / BigInt(superblock.blockBytes);
  return wanted - superblock.blocks < minGroupBlocks;
}

/**
 * mkfs.xfs allocates the whole log, at least 64 MiB, with zeroes; a hole reads the same and uses no space. Only valid
 * right after mkfs, while the log has only its first record.
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
      // A filesystem without holes keeps the blocks.
      if (!hasErrno(error, 'EOPNOTSUPP')) throw error;
    }
    await fsync(lane, handle, imagePath);
  });
}
