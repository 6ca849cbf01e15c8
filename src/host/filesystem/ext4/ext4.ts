import { MiB } from '../../../units.ts';
import { CommandError, hasErrno, KernelError } from '../../errors.ts';
import { makePaths } from '../../files/paths.ts';
import type {
  Filesystem,
  GrowUnmountedOptions,
  LoopDevice,
  MakeOptions,
  Superblock,
} from '../../host.ts';
import type { Lane } from '../../lane.ts';
import type { Run } from '../../programs/run.ts';
import { assertGrown, growExt4 } from '../grow.ts';
import { imageBytes, readImage } from '../read-image.ts';
import { requireUuid } from '../uuid.ts';
import { readJournal, requestReplay } from './journal.ts';
import { ext4MakeArguments } from './mkfs-args.ts';
import {
  type Ext4Superblock,
  ext4Fills,
  ext4MaxGrowthFactor,
  ext4SuperblockAt,
  ext4SuperblockBytes,
  ext4UnusableTail,
  journalHasData,
  journalRecordsError,
  parseExt4Superblock,
} from './superblock.ts';
import { Ext4Templates, writeTemplate } from './template-cache.ts';
import { UndoLog } from './undo-log.ts';
import { writeExt4Uuid } from './write-uuid.ts';

/** mke2fs creates no journal below 8 MiB. */
export const ext4MinBytes = 8n * MiB;

const minute = 60_000;
const blockBytes = 4096n;

/** The exit code of e2fsck is a bit mask; from 4 up, errors are left uncorrected or the check itself failed. */
const fsckExitCodes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] as const;

/** What this process has learned about mkfs.ext4. */
export class Ext4State {
  /** mke2fs before 1.47 lacks `assume_storage_prezeroed`; its first error shows that. */
  supportsPrezeroed = true;
  readonly templates = new Ext4Templates();
  /** Keys of templates that are being read. */
  readonly learning = new Set<string>();
}

/** ext4 on images. Its tools work on the unattached file; only online growth is done by the kernel. */
export class Ext4 implements Filesystem {
  readonly type = 'ext4';
  readonly minBytes = ext4MinBytes;
  readonly minGrownBytes = ext4MinBytes;
  readonly mountOptions: readonly string[] = [];
  readonly #lane: Lane;
  readonly #run: Run;
  readonly #learned: Ext4State;

  constructor(lane: Lane, run: Run, learned: Ext4State) {
    this.#lane = lane;
    this.#run = run;
    this.#learned = learned;
  }

  /**
   * mkfs.ext4 makes the first image of a kind; later ones get a copy of what it wrote, with their own identity (ADR
   * 0005). With features of the caller, a fresh image has other contents, so mkfs always makes it.
   */
  async make(imagePath: string, options: MakeOptions): Promise<void> {
    const sizeBytes = await imageBytes(this.#lane, imagePath);
    const key = options.options.includes('-O') ? undefined : templateKey(sizeBytes, options);
    const template = key === undefined ? undefined : this.#learned.templates.find(key);
    if (template !== undefined) {
      await writeTemplate(this.#lane, imagePath, template, requireUuid(options.uuid));
      return;
    }
    await this.#format(imagePath, sizeBytes, options);
    if (key === undefined || this.#learned.learning.has(key)) return;
    this.#learned.learning.add(key);
    try {
      await this.#learned.templates.learn(this.#lane, key, imagePath, options.uuid);
    } finally {
      this.#learned.learning.delete(key);
    }
  }

  async #format(imagePath: string, sizeBytes: bigint, options: MakeOptions): Promise<void> {
    const format = (prezeroed: boolean) =>
      this.#run(
        this.#lane,
        'mkfs.ext4',
        ext4MakeArguments(imagePath, sizeBytes, options, prezeroed),
        {
          timeoutMs: 10 * minute,
          image: imagePath,
        },
      );
    try {
      await format(this.#learned.supportsPrezeroed);
    } catch (error) {
      const unknown =
        error instanceof CommandError && error.stderr.includes('assume_storage_prezeroed');
      if (!this.#learned.supportsPrezeroed || !unknown) throw error;
      this.#learned.supportsPrezeroed = false;
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
    const isStopped =
      state !== 'has-errors' && (await this.#journalIsStopped(imagePath, superblock));
    return {
      fsType: 'ext4',
      uuid,
      sizeBytes,
      unusableTailBytes,
      state: isStopped ? 'has-errors' : state,
    };
  }

  /**
   * Whether the journal shows an error: after one, the superblock may not have been written any more, or only the
   * superblock was.
   */
  async #journalIsStopped(imagePath: string, superblock: Ext4Superblock): Promise<boolean> {
    const journal = await readJournal(this.#lane, imagePath, superblock);
    return superblock.state === 'clean' ? journalHasData(journal) : journalRecordsError(journal);
  }

  recover(imagePath: string): Promise<boolean> {
    return new UndoLog(this.#lane, imagePath).restore();
  }

  /**
   * Checks with e2fsck -fn; only then -fp repairs what is safe without an operator, with an undo log beside the image.
   * If errors remain, or the program is killed, every byte that it wrote is restored.
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
    // 8 and above: e2fsck could not start, for example without a superblock.
    if (check.exitCode >= 8 && (check.exitCode & 4) === 0) return damaged(check);
    return undo.runWithLog(async (options) => {
      const repair = await this.#fsck(imagePath, ['-fp', ...options]);
      if (repair.exitCode < 4 && (await this.#isSound(imagePath))) {
        return { outcome: check.exitCode === 0 ? 'sound' : 'repaired' };
      }
      await undo.requireFreeSpace();
      await undo.restore();
      return damaged(repair);
    });
  }

  async #isSound(imagePath: string): Promise<boolean> {
    const superblock = await this.readSuperblock(imagePath);
    if (superblock?.state !== 'clean') return false;
    return (await this.#fsck(imagePath, ['-fn'])).exitCode === 0;
  }

  /**
   * KernelError EIO when the program could not read or write the image; its exit code then says nothing about the
   * filesystem.
   */
  async #fsck(imagePath: string, options: readonly string[]) {
    const result = await this.#run(this.#lane, 'e2fsck', [...options, imagePath], {
      timeoutMs: 60 * minute,
      image: imagePath,
      exitCodes: fsckExitCodes,
    });
    // The exit code is that of a damaged filesystem; only the output shows an I/O error.
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
    // The kernel requires the capability even if there is nothing to do.
    const mounted = await readExt4(this.#lane, device.path, { verify: false });
    if (mounted !== undefined && ext4Fills(mounted, sizeBytes)) return 'grown';
    try {
      await growExt4(this.#lane, target, device, sizeBytes / blockBytes);
      return 'grown';
    } catch (error) {
      // EOPNOTSUPP: a layout (sparse_super2, no resize_inode) that only resize2fs can grow.
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
   * e2fsck -fp and resize2fs, each with an undo log beside the image: a resize2fs that is killed at any of its writes
   * leaves a filesystem that e2fsck -p refuses (ADR 0010).
   */
  async growUnmounted(
    imagePath: string,
    { isDisposable = false }: GrowUnmountedOptions,
  ): Promise<void> {
    const sizeBytes = await imageBytes(this.#lane, imagePath);
    const undo = new UndoLog(this.#lane, imagePath);
    await undo.restore();
    const before = await readExt4(this.#lane, imagePath);
    if (before !== undefined && ext4Fills(before, sizeBytes)) return;
    if (before !== undefined) refuseFactor(before, sizeBytes, imagePath);
    const change = async (file: 'e2fsck' | 'resize2fs', options: readonly string[]) => {
      const work = async (undoOptions: readonly string[]): Promise<void> => {
        await this.#run(this.#lane, file, [...options, ...undoOptions, imagePath], {
          timeoutMs: 60 * minute,
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

  /** A clean filesystem is changed in place; tune2fs, which takes fifteen times as long, replays a journal itself. */
  async renewUuid(imagePath: string, options: { readonly uuid: string }): Promise<void> {
    const uuid = requireUuid(options.uuid);
    if (!(await writeExt4Uuid(this.#lane, imagePath, uuid))) {
      await this.#run(this.#lane, 'tune2fs', ['-U', uuid, imagePath], {
        timeoutMs: 10 * minute,
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

/** Everything that determines what mkfs.ext4 writes, except the UUID. */
function templateKey(sizeBytes: bigint, options: MakeOptions): string {
  return `${sizeBytes} ${options.sectorSize} ${options.options.join(' ')}`;
}

function refuseFactor(before: Ext4Superblock, sizeBytes: bigint, imagePath: string): void {
  const nowBytes = before.blocks * BigInt(before.blockBytes);
  if (sizeBytes <= nowBytes * ext4MaxGrowthFactor) return;
  throw new CommandError('resize2fs', {
    message: `the ext4 in ${imagePath} has ${nowBytes} bytes and cannot grow to ${sizeBytes} at once: grow in steps of at most a factor of ${ext4MaxGrowthFactor}`,
  });
}

async function readExt4(
  lane: Lane,
  path: string,
  options?: { readonly verify: boolean },
): Promise<Ext4Superblock | undefined> {
  const bytes = await readImage(lane, path, ext4SuperblockAt, ext4SuperblockBytes);
  return parseExt4Superblock(bytes, options);
}

function damaged(result: { readonly exitCode: number; readonly stdout: string }) {
  const detail = `e2fsck exited with code ${result.exitCode}: ${result.stdout.trim().slice(-1000)}`;
  return { outcome: 'damaged', detail } as const;
}
