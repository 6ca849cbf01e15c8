import { MiB } from '../../../units.ts';
import { CommandError, hasErrno } from '../../errors.ts';
import type { Filesystem, LoopDevice, MakeOptions, SectorSize, Superblock } from '../../host.ts';
import { constants } from '../../kernel/abi.ts';
import { fallocate } from '../../kernel/calls.ts';
import { fsync, openFlags, withOpen } from '../../kernel/descriptor.ts';
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
/** mkfs writes one record, the clean unmount, at the log's start; it ends well before this. */
const logRecordBytes = 16n * 1024n;
/** The kernel and mkfs leave a rest of fewer blocks than this unused: no allocation group is that small. */
const minGroupBlocks = 64n;

interface WorkOptions {
  readonly sectorSize: SectorSize;
  readonly workDir: string;
}

/** XFS on images. Its log is replayed, and it grows, only while mounted: a private mount does it offline. */
export class Xfs implements Filesystem {
  readonly type = 'xfs';
  readonly minBytes = xfsMinBytes;
  readonly minGrownBytes = xfsMinBytes;
  readonly mountOptions: readonly string[] = [];
  readonly #run: Run;
  readonly #deps: PrivateMountDeps;

  constructor(run: Run, deps: PrivateMountDeps) {
    this.#run = run;
    this.#deps = deps;
  }

  /** mkfs.xfs ends with an fsync of the image; punching the log is synced here. */
  async make(imagePath: string, options: MakeOptions): Promise<void> {
    const flags = mergeFlags(options.options, [
      { flag: '-m', value: `uuid=${requireUuid(options.uuid)}`, join: true },
    ]);
    const args = ['-q', '-f', '-K', '-s', `size=${options.sectorSize}`, ...flags, imagePath];
    await this.#run('mkfs.xfs', args, { timeoutMs: 10 * minute, image: imagePath });
    if (!options.thick) await punchLog(imagePath);
  }

  /**
   * Whether the log holds anything can be told only by walking through it, which the mount does
   * anyway: so the state is `needs-replay` always, and no answer is worse for it.
   */
  async readSuperblock(imagePath: string): Promise<Superblock | undefined> {
    const superblock = await readXfs(imagePath);
    if (superblock === undefined) return undefined;
    const { uuid, blocks, blockBytes, needsRepair } = superblock;
    return {
      fsType: 'xfs',
      uuid,
      sizeBytes: blocks * BigInt(blockBytes),
      state: needsRepair ? 'has-errors' : 'needs-replay',
    };
  }

  /** The mount is the check: it replays the log and refuses what is damaged. Nothing is repaired here. */
  async check(imagePath: string): ReturnType<Filesystem['check']> {
    const superblock = await readXfs(imagePath);
    if (superblock === undefined) {
      return { outcome: 'damaged', detail: 'no XFS superblock whose checksum holds' };
    }
    if (!superblock.needsRepair) return { outcome: 'sound' };
    return {
      outcome: 'damaged',
      detail: 'a repair was begun and not finished: xfs_repair has to be run by a person',
    };
  }

  /** No program changes an XFS that anybody has: it grows while it is mounted. */
  recover(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async growMounted(target: string, device: LoopDevice, sizeBytes: bigint): Promise<'grown'> {
    await growXfs(target, device, sizeBytes);
    return 'grown';
  }

  async growImage(imagePath: string, options: WorkOptions): Promise<void> {
    const sizeBytes = await imageBytes(imagePath);
    if (fills(await readXfs(imagePath), sizeBytes)) return;
    const mount = { ...options, fsType: 'xfs', mountOptions: [] } as const;
    await withPrivateMount(this.#deps, imagePath, mount, async (target, device) => {
      await growXfs(target, device, sizeBytes);
    });
    assertGrown(fills(await readXfs(imagePath), sizeBytes), imagePath, sizeBytes);
  }

  /** xfs_db changes the UUID of a clean log only, and answers 0 also when it refused: the superblock tells. */
  async renewUuid(imagePath: string, options: WorkOptions & { uuid: string }): Promise<void> {
    const uuid = requireUuid(options.uuid);
    // The only mount that says `nouuid`: a fresh copy, whose source may be mounted, replays its log.
    const mount = { ...options, fsType: 'xfs', mountOptions: ['nouuid'] } as const;
    await withPrivateMount(this.#deps, imagePath, mount);
    const args = ['-x', '-c', `uuid ${uuid}`, imagePath];
    const { stdout, stderr } = await this.#run('xfs_db', args, {
      timeoutMs: 10 * minute,
      image: imagePath,
    });
    const after = await readXfs(imagePath);
    if (after?.uuid === uuid) return;
    throw new CommandError('xfs_db', {
      message: `xfs_db left ${imagePath} with the UUID ${after?.uuid ?? 'of no filesystem'}`,
      stderr: `${stderr}\n${stdout}`,
    });
  }
}

async function readXfs(path: string): Promise<XfsSuperblock | undefined> {
  return parseXfsSuperblock(await readImage(path, 0, xfsSuperblockBytes));
}

/** Whether the filesystem has all of the image that it can use. */
function fills(superblock: XfsSuperblock | undefined, sizeBytes: bigint): boolean {
  if (superblock === undefined) return false;
  const wanted = sizeBytes / BigInt(superblock.blockBytes);
  return wanted - superblock.blocks < minGroupBlocks;
}

/**
 * mkfs.xfs allocates the whole log, 64 MiB at least, as zeroes; a hole reads the same and takes no
 * room. Only valid straight after mkfs, while the log holds nothing but its first record.
 */
async function punchLog(imagePath: string): Promise<void> {
  const superblock = await readXfs(imagePath);
  if (superblock === undefined) {
    throw new CommandError('mkfs.xfs', { message: `mkfs.xfs left no superblock in ${imagePath}` });
  }
  const range = {
    mode: constants.FALLOC_FL_PUNCH_HOLE | constants.FALLOC_FL_KEEP_SIZE,
    offset: superblock.logOffset + logRecordBytes,
    length: superblock.logBytes - logRecordBytes,
  };
  await withOpen(imagePath, openFlags.readWrite, async (handle) => {
    try {
      await fallocate(handle.fd, range, imagePath);
    } catch (error) {
      // A pool without holes gains nothing and loses nothing.
      if (!hasErrno(error, 'EOPNOTSUPP')) throw error;
    }
    await fsync(handle, imagePath);
  });
}
