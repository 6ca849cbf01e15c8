import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { AttachOptions, FsType, Host, LoopDevice } from '../../src/host/host.ts';
import { MiB } from '../../src/units.ts';
import type { OtherSoftware } from '../helpers/other-software.ts';

export interface ContractCase {
  readonly name: string;
  readonly run: (context: CaseContext) => Promise<void>;
}

/** The host, directory and assertions that a case uses. */
export interface CaseContext {
  readonly host: Host;
  readonly otherSoftware: OtherSoftware;
  readonly directory: string;
  readonly equal: (actual: unknown, expected: unknown, what?: string) => void;
}

export const sizes: Readonly<Record<FsType, bigint>> = {
  ext4: 16n * MiB,
  xfs: 300n * MiB,
  btrfs: 109n * MiB,
};
export const attachOptions: AttachOptions = {
  sectorSize: 4096,
  readOnly: false,
  directIo: true,
  discard: true,
  label: 'contract',
};

/** The errno that `work` fails with; other errors as text. */
export async function errnoOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'no error';
  } catch (error) {
    return error instanceof Error && 'errno' in error && typeof error.errno === 'string'
      ? error.errno
      : String(error);
  }
}

/** Its UUID is new: mkfs.btrfs refuses one that another device had up to two seconds ago. */
export async function makeImage(
  { host, directory }: CaseContext,
  name: string,
  fsType: FsType = 'ext4',
  uuid: string = randomUUID(),
): Promise<string> {
  const path = join(directory, `${name}.img`);
  await host.files.createImage(path, { sizeBytes: sizes[fsType], allocate: false });
  await host.filesystems[fsType].make(path, { sectorSize: 4096, thick: false, uuid, options: [] });
  return path;
}

export async function makeDirectory({ directory }: CaseContext, name: string): Promise<string> {
  const path = join(directory, name);
  await mkdir(path, { recursive: true });
  return path;
}

/** Attaches the image during `work`. */
export async function attached<T>(
  { host }: CaseContext,
  path: string,
  work: (device: LoopDevice) => Promise<T>,
  options: Partial<AttachOptions> = {},
): Promise<T> {
  const device = await host.loops.attach(path, { ...attachOptions, ...options });
  try {
    return await work(device);
  } finally {
    await host.loops.detach(device);
  }
}

/** Mounts the device during `work`. */
export async function mounted<T>(
  context: CaseContext,
  device: LoopDevice,
  work: (target: string) => Promise<T>,
  fsType: FsType = 'ext4',
): Promise<T> {
  const { host } = context;
  const target = await makeDirectory(context, 'staging');
  await host.mounts.mountDevice(device.path, target, {
    fsType,
    options: host.filesystems[fsType].mountOptions,
  });
  try {
    return await work(target);
  } finally {
    await host.mounts.unmount(target);
  }
}

export const never = new AbortController().signal;
