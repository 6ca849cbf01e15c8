import { MiB } from '../../../units.ts';
import { CommandError, hasErrno, KernelError } from '../../errors.ts';
import { makePaths } from '../../files/paths.ts';
import type {
  Ext4Filesystem,
  Filesystem,
  GrowUnmountedOptions,
  LoopDevice,
  MakeOptions,
  Superblock,
} from '../../host.ts';
import { checkTimeoutMs, imageTimeoutMs } from '../../kernel/time-limits.ts';
import type { Lane } from '../../lane.ts';
import type { Run } from '../../programs/run.ts';
import { assertGrown, growExt4 } from '../grow.ts';
import { readImage, readImageSize } from '../read-image.ts';
import { requireUuid } from '../uuid.ts';
import { readJournal, requestReplay } from './journal.ts';
import { ext4MakeArguments } from './mkfs-args.ts';
import {
  type Ext4Superblock,
  ext4Fills,
  ext4MaxGrowthFactor,
  ext4SuperblockBytes,
  ext4SuperblockOffset,
  ext4UnusableTail,
  journalHasData,
  journalRecordsError,
  parseExt4Superblock,
} from './superblock.ts';
import { Ext4Templates, writeTemplate } from './template-cache.ts';
import { UndoLog } from './undo-log.ts';
import { writeExt4Uuid } from './write-uuid.ts';

/** Minimum size: mke2fs creates no journal below 8 MiB. */
const ext4MinBytes = 8n * MiB;

const blockBytes = 4096n;

/** The exit codes of e2fsck are a bit mask. From 4 up, errors were left uncorrected or the check itself failed. */
const fsckExitCodes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] as const;

/** What this process has learned about mkfs.ext4, and the templates made from its output. All lanes share it. */
export class Ext4State {
  /** Whether mke2fs has `assume_storage_prezeroed` (1.47 and later). Assumed until its error shows otherwise. */
  supportsPrezeroed = true;
  readonly templates = new Ext4Templates();
  /** Keys of templates that are being created. */
  readonly creating = new Set<string>();
}

/**
 * ext4 in images. Its tools run on the unattached image; only the growth of a mounted filesystem is done by the kernel.
 */
export class Ext4 implements Ext4Filesystem {
  readonly type = 'ext4';
  readonly minBytes = ext4MinBytes;
  readonly minGrownBytes = ext4MinBytes;
  readonly maxGrowthFactor = ext4MaxGrowthFactor;
  readonly mountOptions: readonly string[] = [];
  readonly #lane: Lane;
  readonly #run: Run;
  readonly #state: Ext4State;

  constructor(lane: Lane, run: Run, state: Ext4State) {
    this.#lane = lane;
    this.#run = run;
    this.#state = state;
  }

  /**
   * mkfs.ext4 formats the first image with given arguments. Later images get a copy of what it wrote, with their own
   * identity (ADR 0005). If the caller sets features, mkfs formats every image, since the structures may differ.
   */
  async make(imagePath: string, options: MakeOptions): Promise<void> {
    const sizeBytes = await readImageSize(this.#lane, imagePath);
    const key = options.options.includes('-O') ? undefined : templateKey(sizeBytes, options);
    const template = key === undefined ? undefined : this.#state.templates.find(key);
    if (template !== undefined) {
      await writeTemplate(this.#lane, imagePath, template, requireUuid(options.uuid));
      return;
    }
    await this.#format(imagePath, sizeBytes, options);
    if (key === undefined || this.#state.creating.has(key)) return;
    this.#state.creating.add(key);
    try {
      await this.#state.templates.store(this.#lane, key, imagePath, options.uuid);
    } finally {
      this.#state.creating.delete(key);
    }
  }

  async #format(imagePath: string, sizeBytes: bigint, options: MakeOptions): Promise<void> {
    const format = (prezeroed: boolean) =>
      this.#run(
        this.#lane,
        'mkfs.ext4',
        ext4MakeArguments(imagePath, sizeBytes, options, prezeroed),
        {
          timeoutMs: imageTimeoutMs,
          image: imagePath,
        },
      );
    // Another call may find out meanwhile that it is not supported.
    const { supportsPrezeroed } = this.#state;
    try {
      await format(supportsPrezeroed);
    } catch (error) {
      const isUnknownOption =
        error instanceof CommandError && error.stderr.includes('assume_storage_prezeroed');
      if (!supportsPrezeroed || !isUnknownOption) throw error;
      this.#state.supportsPrezeroed = false;
      await format(false);
    }
  }

  async readSuperblock(imagePath: string): Promise<Superblock | undefined> {
    const superblock = await readExt4(this.#lane, imagePath);
    if (superblock === undefined) return undefined;
    const { uuid, state } = superblock;
    const blockBytes = BigInt(superblock.blockBytes);
    const sizeBytes = superblock.blocks * blockBytes;
    const unusableTailBytes = ext4UnusableTail(superblock) * blockBytes;
    const journalHasError =
      state !== 'has-errors' && (await this.#journalHasError(imagePath, superblock));
    return {
      fsType: 'ext4',
      uuid,
      sizeBytes,
      unusableTailBytes,
      state: journalHasError ? 'has-errors' : state,
      maxSectorSize: superblock.blockBytes >= 4096 ? 4096 : 512,
    };
  }

  /**
   * Whether the journal shows an error that the superblock does not: after an error, the kernel may no longer write the
   * superblock, or may mark it clean although the journal still has data.
   */
  async #journalHasError(imagePath: string, superblock: Ext4Superblock): Promise<boolean> {
    const journal = await readJournal(this.#lane, imagePath, superblock);
    return superblock.state === 'clean' ? journalHasData(journal) : journalRecordsError(journal);
  }

  recover(imagePath: string): Promise<boolean> {
    return new UndoLog(this.#lane, imagePath).restore();
  }

  /**
   * Checks with e2fsck -fn first. Then -fp repairs what is safe without an operator, with an undo log beside the image.
   * If errors remain or the program is killed, every byte that it wrote is restored.
   */
  async check(imagePath: string): ReturnType<Filesystem['check']> {
    const undo = new UndoLog(this.#lane, imagePath);
    await undo.restore();
    const undoReplayFlag = await requestReplay(this.#lane, imagePath);
    const result = await this.#repair(imagePath, undo);
    if (result.outcome === 'damaged') await undoReplayFlag?.();
    return result;
  }

  async #repair(imagePath: string, undo: UndoLog): ReturnType<Filesystem['check']> {
    const check = await this.#fsck(imagePath, ['-fn']);
    // 8 and above: e2fsck could not check the filesystem, for example because it has no superblock.
    if (check.exitCode >= 8 && (check.exitCode & 4) === 0) return damagedResult(check);
    return undo.runWithLog(async (options) => {
      const repair = await this.#fsck(imagePath, ['-fp', ...options]);
      if (repair.exitCode < 4 && (await this.#isSound(imagePath))) {
        return { outcome: check.exitCode === 0 ? 'sound' : 'repaired' };
      }
      await undo.requireFreeSpace();
      await undo.restore();
      return damagedResult(repair);
    });
  }

  async #isSound(imagePath: string): Promise<boolean> {
    const superblock = await this.readSuperblock(imagePath);
    if (superblock?.state !== 'clean') return false;
    return (await this.#fsck(imagePath, ['-fn'])).exitCode === 0;
  }

  /**
   * Runs e2fsck. KernelError EIO if it could not read or write the image; its exit code then says nothing about the
   * filesystem.
   */
  async #fsck(imagePath: string, options: readonly string[]) {
    const result = await this.#run(this.#lane, 'e2fsck', [...options, imagePath], {
      timeoutMs: checkTimeoutMs,
      image: imagePath,
      exitCodes: fsckExitCodes,
    });
    // After an I/O error, e2fsck exits as for a damaged filesystem. Only its output shows the difference.
    const output = `${result.stdout}\n${result.stderr}`;
    if (result.exitCode >= 4 && output.includes('Input/output error')) {
      throw new KernelError('e2fsck', 'EIO', imagePath);
    }
    return result;
  }

  async growMounted(
    target: string,
    device: LoopDevice,
    sizeBytes: bigint,
  ): Promise<'grown' | 'not-permitted'> {
    // Check first: the kernel requires the capability even if there is nothing to grow.
    const mounted = await readExt4(this.#lane, device.path, { verify: false });
    if (mounted !== undefined && ext4Fills(mounted, sizeBytes)) return 'grown';
    try {
      // The kernel counts in blocks of the filesystem, which need not be one that the driver made.
      const ownBlockBytes = mounted === undefined ? blockBytes : BigInt(mounted.blockBytes);
      await growExt4(this.#lane, target, device, sizeBytes / ownBlockBytes);
      return 'grown';
    } catch (error) {
      // EOPNOTSUPP: only resize2fs can grow this layout (sparse_super2, no resize_inode).
      if (hasErrno(error, 'EPERM', 'EOPNOTSUPP')) return 'not-permitted';
      throw error;
    }
  }

  async countErrors({ number }: LoopDevice): Promise<number> {
    const path = `/sys/fs/ext4/loop${number}/errors_count`;
    const text = await makePaths(this.#lane)
      .readText(path)
      .catch(() => '0');
    return Number.parseInt(text, 10) || 0;
  }

  /**
   * Grows the image with e2fsck -fp and resize2fs, each with an undo log beside the image: if resize2fs is killed
   * between its writes, it leaves a filesystem that e2fsck -p refuses (ADR 0010).
   */
  async growUnmounted(
    imagePath: string,
    { isDisposable = false }: GrowUnmountedOptions,
  ): Promise<void> {
    const sizeBytes = await readImageSize(this.#lane, imagePath);
    const undo = new UndoLog(this.#lane, imagePath);
    await undo.restore();
    const before = await readExt4(this.#lane, imagePath);
    if (before !== undefined && ext4Fills(before, sizeBytes)) return;
    if (before !== undefined) requireGrowthFactor(before, sizeBytes, imagePath);
    const change = async (file: 'e2fsck' | 'resize2fs', options: readonly string[]) => {
      const work = async (undoOptions: readonly string[]): Promise<void> => {
        await this.#run(this.#lane, file, [...options, ...undoOptions, imagePath], {
          timeoutMs: checkTimeoutMs,
          image: imagePath,
          exitCodes: file === 'e2fsck' ? [0, 1] : [0],
        });
      };
      await (isDisposable ? work([]) : undo.runWithLog(work));
    };
    await change('e2fsck', ['-fp']);
    await change('resize2fs', ['-f']);
    const after = await readExt4(this.#lane, imagePath);
    assertGrown(after !== undefined && ext4Fills(after, sizeBytes), imagePath, sizeBytes);
  }

  /**
   * Writes the UUID of a clean filesystem directly. Otherwise runs tune2fs, which replays a journal but takes fifteen
   * times as long.
   */
  async renewUuid(imagePath: string, options: { readonly uuid: string }): Promise<void> {
    const uuid = requireUuid(options.uuid);
    if (!(await writeExt4Uuid(this.#lane, imagePath, uuid))) {
      await this.#run(this.#lane, 'tune2fs', ['-U', uuid, imagePath], {
        timeoutMs: imageTimeoutMs,
        image: imagePath,
      });
    }
    const after = await readExt4(this.#lane, imagePath);
    if (after?.uuid !== uuid) {
      throw new CommandError('tune2fs', {
        message: `the UUID of ${imagePath} was not set to ${uuid}: it has ${after?.uuid ?? 'no valid superblock'}`,
      });
    }
  }
}

/** The key of a template: everything except the UUID that determines what mkfs.ext4 writes. */
function templateKey(sizeBytes: bigint, options: MakeOptions): string {
  return `${sizeBytes} ${options.sectorSize} ${options.options.join(' ')}`;
}

function requireGrowthFactor(before: Ext4Superblock, sizeBytes: bigint, imagePath: string): void {
  const nowBytes = before.blocks * BigInt(before.blockBytes);
  if (sizeBytes <= nowBytes * ext4MaxGrowthFactor) return;
  throw new CommandError('resize2fs', {
    message: `the ext4 filesystem in ${imagePath} has ${nowBytes} bytes and cannot grow to ${sizeBytes} in one step: grow it in steps by a factor of at most ${ext4MaxGrowthFactor}`,
  });
}

async function readExt4(
  lane: Lane,
  path: string,
  options?: { readonly verify: boolean },
): Promise<Ext4Superblock | undefined> {
  const bytes = await readImage(lane, path, ext4SuperblockOffset, ext4SuperblockBytes);
  return parseExt4Superblock(bytes, options);
}

function damagedResult(result: { readonly exitCode: number; readonly stdout: string }) {
  const detail = `e2fsck exited with code ${result.exitCode}: ${result.stdout.trim().slice(-1000)}`;
  return { outcome: 'damaged', detail } as const;
}
