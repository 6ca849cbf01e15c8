import { MiB } from '../../../units.ts';
import { CommandError, hasErrno, KernelError } from '../../errors.ts';
import type {
  Filesystem,
  GrowImageOptions,
  LoopDevice,
  MakeOptions,
  Superblock,
} from '../../host.ts';
import type { Run } from '../../programs/run.ts';
import { assertGrown, growExt4 } from '../grow.ts';
import { imageBytes, readImage } from '../read-image.ts';
import { requireUuid } from '../uuid.ts';
import { askForReplay, readJournal } from './journal.ts';
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
import { writeExt4Uuid } from './uuid.ts';

/** mke2fs makes no journal in less than 8 MiB. */
export const ext4MinBytes = 8n * MiB;

const minute = 60_000;
const blockBytes = 4096n;

/** e2fsck's exit code is a sum of bits; from 4 up something is left uncorrected or the check itself failed. */
const fsckExitCodes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] as const;

/** ext4 on images. Its tools work on the unattached file; only growing while mounted is the kernel's. */
export class Ext4 implements Filesystem {
  readonly type = 'ext4';
  readonly minBytes = ext4MinBytes;
  readonly minGrownBytes = ext4MinBytes;
  readonly mountOptions: readonly string[] = [];
  readonly #run: Run;
  /** mke2fs before 1.47 lacks `assume_storage_prezeroed`; learnt from its first refusal. */
  #knowsPrezeroed = true;
  readonly #templates = new Ext4Templates();
  /** What is being read into a template now. */
  readonly #learning = new Set<string>();

  constructor(run: Run) {
    this.#run = run;
  }

  /**
   * mkfs.ext4 makes the first image of its kind; the next ones get what it made, with an identity of their own (ADR 0005).
   * Features change what a fresh image holds, so one with features of the caller's is always mkfs's.
   */
  async make(imagePath: string, options: MakeOptions): Promise<void> {
    const sizeBytes = await imageBytes(imagePath);
    const key = options.options.includes('-O') ? undefined : templateKey(sizeBytes, options);
    const template = key === undefined ? undefined : this.#templates.find(key);
    if (template !== undefined) {
      await writeTemplate(imagePath, template, requireUuid(options.uuid));
      return;
    }
    await this.#format(imagePath, sizeBytes, options);
    if (key === undefined || this.#learning.has(key)) return;
    this.#learning.add(key);
    try {
      await this.#templates.learn(key, imagePath, options.uuid);
    } finally {
      this.#learning.delete(key);
    }
  }

  async #format(imagePath: string, sizeBytes: bigint, options: MakeOptions): Promise<void> {
    const format = (prezeroed: boolean) =>
      this.#run('mkfs.ext4', ext4MakeArguments(imagePath, sizeBytes, options, prezeroed), {
        timeoutMs: 10 * minute,
        image: imagePath,
      });
    try {
      await format(this.#knowsPrezeroed);
    } catch (error) {
      const unknown =
        error instanceof CommandError && error.stderr.includes('assume_storage_prezeroed');
      if (!this.#knowsPrezeroed || !unknown) throw error;
      this.#knowsPrezeroed = false;
      await format(false);
    }
  }

  async readSuperblock(imagePath: string): Promise<Superblock | undefined> {
    const superblock = await readExt4(imagePath);
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

  /** By what the journal says itself: the superblock could not be written any more after an error, or it alone could be. */
  async #journalIsStopped(imagePath: string, superblock: Ext4Superblock): Promise<boolean> {
    const journal = await readJournal(imagePath, superblock);
    return superblock.state === 'clean' ? journalHasData(journal) : journalRecordsError(journal);
  }

  recover(imagePath: string): Promise<boolean> {
    return new UndoLog(imagePath).takeBack();
  }

  /**
   * e2fsck -fn looks first; only then -fp repairs what is safe without a person, with an undo log beside the image: when
   * something remains, or the program is killed, every byte it wrote is taken back.
   */
  async check(imagePath: string): ReturnType<Filesystem['check']> {
    const undo = new UndoLog(imagePath);
    await undo.takeBack();
    const forgetReplay = await askForReplay(imagePath);
    const result = await this.#repair(imagePath, undo);
    if (result.outcome === 'damaged') await forgetReplay?.();
    return result;
  }

  async #repair(imagePath: string, undo: UndoLog): ReturnType<Filesystem['check']> {
    const look = await this.#fsck(imagePath, ['-fn']);
    // 8 and above: it could not even begin, for example without any superblock.
    if (look.exitCode >= 8 && (look.exitCode & 4) === 0) return damaged(look);
    return undo.during(async (options) => {
      const repair = await this.#fsck(imagePath, ['-fp', ...options]);
      if (repair.exitCode < 4 && (await this.#isSound(imagePath))) {
        return { outcome: look.exitCode === 0 ? 'sound' : 'repaired' };
      }
      await undo.requireRoom();
      await undo.takeBack();
      return damaged(repair);
    });
  }

  async #isSound(imagePath: string): Promise<boolean> {
    const superblock = await this.readSuperblock(imagePath);
    if (superblock?.state !== 'clean') return false;
    return (await this.#fsck(imagePath, ['-fn'])).exitCode === 0;
  }

  /** KernelError EIO where the program could not read or write the image: then its exit code says nothing of the filesystem. */
  async #fsck(imagePath: string, options: readonly string[]) {
    const result = await this.#run('e2fsck', [...options, imagePath], {
      timeoutMs: 60 * minute,
      image: imagePath,
      exitCodes: fsckExitCodes,
    });
    // Its exit code is that of a damaged filesystem, so only its words are left.
    const said = `${result.stdout}\n${result.stderr}`;
    if (result.exitCode >= 4 && said.includes('Input/output error')) {
      throw new KernelError('e2fsck', 'EIO', imagePath);
    }
    return result;
  }

  async growMounted(
    target: string,
    device: LoopDevice,
    sizeBytes: bigint,
  ): Promise<'grown' | 'not-permitted'> {
    // The kernel asks for the capability even when there is nothing to do.
    const mounted = await readExt4(device.path, { verify: false });
    if (mounted !== undefined && ext4Fills(mounted, sizeBytes)) return 'grown';
    try {
      await growExt4(target, device, sizeBytes / blockBytes);
      return 'grown';
    } catch (error) {
      // EOPNOTSUPP: a layout (sparse_super2, no resize_inode) that only resize2fs can grow.
      if (hasErrno(error, 'EPERM', 'EOPNOTSUPP')) return 'not-permitted';
      throw error;
    }
  }

  /**
   * By e2fsck -fp and resize2fs, each with an undo log beside the image: resize2fs that is killed at any of its writes leaves
   * what e2fsck -p refuses (ADR 0010).
   */
  async growImage(imagePath: string, { isDisposable = false }: GrowImageOptions): Promise<void> {
    const sizeBytes = await imageBytes(imagePath);
    const undo = new UndoLog(imagePath);
    await undo.takeBack();
    const before = await readExt4(imagePath);
    if (before !== undefined && ext4Fills(before, sizeBytes)) return;
    if (before !== undefined) refuseFactor(before, sizeBytes, imagePath);
    const change = async (file: 'e2fsck' | 'resize2fs', options: readonly string[]) => {
      const work = async (undoOptions: readonly string[]): Promise<void> => {
        await this.#run(file, [...options, ...undoOptions, imagePath], {
          timeoutMs: 60 * minute,
          image: imagePath,
          exitCodes: file === 'e2fsck' ? [0, 1] : [0],
        });
      };
      await (isDisposable ? work([]) : undo.during(work));
    };
    await change('e2fsck', ['-fp']);
    await change('resize2fs', ['-f']);
    const after = await readExt4(imagePath);
    assertGrown(after !== undefined && ext4Fills(after, sizeBytes), imagePath, sizeBytes);
  }

  /** A clean one is written in place; tune2fs, which takes fifteen times as long, replays a journal itself. */
  async renewUuid(imagePath: string, options: { readonly uuid: string }): Promise<void> {
    const uuid = requireUuid(options.uuid);
    if (!(await writeExt4Uuid(imagePath, uuid))) {
      await this.#run('tune2fs', ['-U', uuid, imagePath], {
        timeoutMs: 10 * minute,
        image: imagePath,
      });
    }
    const after = await readExt4(imagePath);
    if (after?.uuid !== uuid) {
      throw new CommandError('tune2fs', {
        message: `${imagePath} was left with the UUID ${after?.uuid ?? 'of no filesystem'}`,
      });
    }
  }
}

/** All that decides what mkfs.ext4 writes, but for the UUID. */
function templateKey(sizeBytes: bigint, options: MakeOptions): string {
  return `${sizeBytes} ${options.sectorSize} ${options.options.join(' ')}`;
}

function refuseFactor(before: Ext4Superblock, sizeBytes: bigint, imagePath: string): void {
  const nowBytes = before.blocks * BigInt(before.blockBytes);
  if (sizeBytes <= nowBytes * ext4MaxGrowthFactor) return;
  throw new CommandError('resize2fs', {
    message: `${imagePath} holds ${nowBytes} bytes of ext4: it cannot grow to ${sizeBytes} at once, at most ${ext4MaxGrowthFactor} times`,
  });
}

async function readExt4(
  path: string,
  options?: { readonly verify: boolean },
): Promise<Ext4Superblock | undefined> {
  const bytes = await readImage(path, ext4SuperblockAt, ext4SuperblockBytes);
  return parseExt4Superblock(bytes, options);
}

function damaged(result: { readonly exitCode: number; readonly stdout: string }) {
  const detail = `e2fsck ended with exit code ${result.exitCode}: ${result.stdout.trim().slice(-1000)}`;
  return { outcome: 'damaged', detail } as const;
}
