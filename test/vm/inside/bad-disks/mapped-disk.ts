import { readFile, realpath } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { execa } from 'execa';

interface Extent {
  readonly start: number;
  readonly sectors: number;
}

/** A device-mapper device on a disk of the machine. On request it fails, loses writes or hangs, until `recover`. */
export class MappedDisk {
  readonly #name: string;
  readonly #disk: string;
  readonly #sectors: number;
  /** A device whose reads and writes all fail. */
  #broken = '';
  /** The mapped device. It has no name below /dev/mapper, since udev does not run. */
  path = '';

  private constructor(name: string, disk: { readonly path: string; readonly sectors: number }) {
    this.#name = name;
    this.#disk = disk.path;
    this.#sectors = disk.sectors;
  }

  /** `disk`: a block device. */
  static async make(name: string, disk: string): Promise<MappedDisk> {
    const device = basename(await realpath(disk));
    const sectors = Number(await readFile(`/sys/class/block/${device}/size`, 'utf8'));
    await execa('modprobe', ['--all', 'dm_mod', 'dm_delay', 'dm_flakey']);
    const mapped = new MappedDisk(name, { path: disk, sectors });
    mapped.#broken = await create(`${name}-broken`, `0 ${sectors} error`);
    try {
      mapped.path = await create(name, mapped.#whole);
    } catch (error) {
      await dmsetup(['remove', `${name}-broken`]);
      throw error;
    }
    return mapped;
  }

  get #whole(): string {
    return `0 ${this.#sectors} linear ${this.#disk} 0`;
  }

  /** Reads and writes work. */
  async recover(): Promise<void> {
    await this.#switchTo(this.#whole);
  }

  /** Every read fails with EIO; every write succeeds. The page cache is dropped first, so that reads reach the disk. */
  async failReads(): Promise<void> {
    await this.dropCaches();
    await this.#switchTo(`0 ${this.#sectors} delay ${this.#broken} 0 0 ${this.#disk} 0 0`);
  }

  /** Every write fails with EIO; every read succeeds. */
  async failWrites(): Promise<void> {
    await this.#switchTo(`0 ${this.#sectors} flakey ${this.#disk} 0 0 3600 1 error_writes`);
  }

  /** All reads and writes fail with EIO. */
  async fail(): Promise<void> {
    await this.#switchTo(`0 ${this.#sectors} error`);
  }

  /**
   * Reads and writes fail with EIO in the blocks that have the data of these files or directories, or in one block of an image, and
   * succeed elsewhere.
   */
  async failDataOf(...files: readonly FileOrBlock[]): Promise<void> {
    const bad: Extent[] = [];
    for (const file of files) bad.push(...(await extentsIn(file)));
    const lines: string[] = [];
    let next = 0;
    const addWorking = (end: number): void => {
      if (end > next) lines.push(`${next} ${end - next} linear ${this.#disk} ${next}`);
    };
    for (const { start, sectors } of bad.sort((one, other) => one.start - other.start)) {
      addWorking(start);
      lines.push(`${start} ${sectors} error`);
      next = start + sectors;
    }
    addWorking(this.#sectors);
    for (const file of files) await emptyJournal(dirname(pathOf(file)));
    await this.dropCaches();
    await this.#switchTo(lines.join('\n'));
  }

  /** Every write is acknowledged and lost. */
  async dropWrites(): Promise<void> {
    await this.#switchTo(`0 ${this.#sectors} flakey ${this.#disk} 0 0 3600 1 drop_writes`);
  }

  /** Delays every read and write. */
  async delay(ms: number): Promise<void> {
    await this.#switchTo(`0 ${this.#sectors} delay ${this.#disk} 0 ${ms}`);
  }

  /** No read or write completes until `recover`. */
  async hang(): Promise<void> {
    await dmsetup(['suspend', '--noflush', '--nolockfs', this.#name]);
  }

  /** Whether no filesystem and no process uses it. */
  async isClosed(): Promise<boolean> {
    const columns = ['--columns', '--noheadings', '--options', 'open'];
    return (await dmsetup(['info', ...columns, this.#name])).trim() === '0';
  }

  async remove(): Promise<void> {
    await dmsetup(['remove', '--retry', this.#name]);
    await dmsetup(['remove', '--retry', `${this.#name}-broken`]);
  }

  /** drop_caches keeps recently used metadata buffers; `blockdev --flushbufs` drops them too. */
  async dropCaches(): Promise<void> {
    const script = 'sync; echo 3 >/proc/sys/vm/drop_caches; blockdev --flushbufs "$1"';
    await execa('sh', ['-c', script, 'sh', this.path]);
  }

  async #switchTo(table: string): Promise<void> {
    await this.hang();
    try {
      await dmsetup(['load', this.#name], table);
    } finally {
      await dmsetup(['resume', this.#name]);
    }
  }
}

/** Metadata stays in memory while the journal has it; a freeze checkpoints the journal. */
async function emptyJournal(directory: string): Promise<void> {
  await execa('fsfreeze', ['--freeze', directory]);
  await execa('fsfreeze', ['--unfreeze', directory]);
}

/** A block of 4 KiB. */
const blockSectors = 8;

/** A file or directory, or only one block of an image. */
type FileOrBlock = string | { readonly path: string; readonly block: 'first' | 'last' };

const pathOf = (target: FileOrBlock): string => (typeof target === 'string' ? target : target.path);

async function extentsIn(target: FileOrBlock): Promise<readonly Extent[]> {
  const path = pathOf(target);
  const extents = await extentsOf(path);
  const [first, last] = [extents.at(0), extents.at(-1)];
  if (first === undefined || last === undefined) throw new Error(`${path} has no data`);
  if (typeof target === 'string') return extents;
  const start = target.block === 'first' ? first.start : last.start + last.sectors - blockSectors;
  return [{ start, sectors: blockSectors }];
}

/** The extents of a file on its disk in sectors, in the order of the file. */
async function extentsOf(file: string): Promise<readonly Extent[]> {
  // With -b512 filefrag counts in sectors: "0: 0.. 7: 34816.. 34823: 8: ...".
  const { stdout } = await execa('filefrag', ['-s', '-v', '-b512', file]);
  const found = stdout.matchAll(/^\s*\d+:\s*\d+\.\.\s*\d+:\s*(\d+)\.\.\s*\d+:\s*(\d+):/gm);
  return [...found].map(([, start, sectors]) => ({
    start: Number(start),
    sectors: Number(sectors),
  }));
}

/** Returns the path of the device. */
async function create(name: string, table: string): Promise<string> {
  await dmsetup(['create', name], table);
  const columns = ['--columns', '--noheadings', '--options', 'blkdevname'];
  return `/dev/${(await dmsetup(['info', ...columns, name])).trim()}`;
}

async function dmsetup(args: readonly string[], table?: string): Promise<string> {
  const options = table === undefined ? {} : { input: table };
  const { stdout } = await execa('dmsetup', ['--noudevrules', '--noudevsync', ...args], options);
  return stdout;
}
