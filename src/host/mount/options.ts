import { KernelError } from '../errors.ts';
import { constants } from '../kernel/abi.ts';

/** Options of mount(8) that are flags of mount(2), with the bits that each sets or clears. */
const mountFlags: Readonly<Record<string, { readonly set?: number; readonly clear?: number }>> = {
  defaults: {},
  ro: { set: constants.MS_RDONLY },
  rw: { clear: constants.MS_RDONLY },
  nosuid: { set: constants.MS_NOSUID },
  suid: { clear: constants.MS_NOSUID },
  nodev: { set: constants.MS_NODEV },
  dev: { clear: constants.MS_NODEV },
  noexec: { set: constants.MS_NOEXEC },
  exec: { clear: constants.MS_NOEXEC },
  sync: { set: constants.MS_SYNCHRONOUS },
  async: { clear: constants.MS_SYNCHRONOUS },
  dirsync: { set: constants.MS_DIRSYNC },
  noatime: { set: constants.MS_NOATIME },
  atime: { clear: constants.MS_NOATIME },
  nodiratime: { set: constants.MS_NODIRATIME },
  diratime: { clear: constants.MS_NODIRATIME },
  relatime: { set: constants.MS_RELATIME },
  norelatime: { clear: constants.MS_RELATIME },
  strictatime: { set: constants.MS_STRICTATIME },
  nostrictatime: { clear: constants.MS_STRICTATIME },
  lazytime: { set: constants.MS_LAZYTIME },
  nolazytime: { clear: constants.MS_LAZYTIME },
  nosymfollow: { set: constants.MS_NOSYMFOLLOW },
  symfollow: { clear: constants.MS_NOSYMFOLLOW },
};

/**
 * Splits mount(8) options into flags of mount(2) and filesystem options. A later option overrides an earlier one.
 * KernelError EINVAL for an option with a comma outside double quotes, which the kernel would parse as several options.
 */
export function splitMountOptions(options: readonly string[]): { flags: number; data: string } {
  let flags = 0;
  const data: string[] = [];
  for (const option of options) {
    const known = Object.hasOwn(mountFlags, option) ? mountFlags[option] : undefined;
    if (known !== undefined) flags = (flags & ~(known.clear ?? 0)) | (known.set ?? 0);
    else if (option.replace(/"[^"]*"/g, '').includes(',') || option.includes('\0')) {
      throw new KernelError('mount', 'EINVAL', `option '${option}'`);
    } else data.push(option);
  }
  return { flags, data: data.join(',') };
}
