import { execa } from 'execa';

/** A disk whose writes are all logged to another disk, by the kernel's dm-log-writes. */
export class LoggedDisk {
  readonly #name: string;

  private constructor(name: string) {
    this.#name = name;
  }

  static async make(name: string, disks: { disk: string; log: string }): Promise<LoggedDisk> {
    await execa('modprobe', ['dm_log_writes']);
    const { stdout: sectors } = await execa('blockdev', ['--getsz', disks.disk]);
    const table = `0 ${sectors} log-writes ${disks.disk} ${disks.log}`;
    await dmsetup('create', name, '--table', table);
    return new LoggedDisk(name);
  }

  get path(): string {
    return `/dev/mapper/${this.#name}`;
  }

  /** Writes a mark to the log, after every write that was flushed before. */
  async mark(text: string): Promise<void> {
    await dmsetup('message', this.#name, '0', 'mark', text);
  }

  /** Removes the device. Only then does the log's superblock count all entries. */
  async remove(): Promise<void> {
    await dmsetup('remove', this.#name);
  }
}

/** Makes dmsetup create its device nodes itself: udev may not run in the machine. */
async function dmsetup(...args: readonly string[]): Promise<void> {
  await execa('dmsetup', args, { env: { DM_DISABLE_UDEV: '1' } });
}
