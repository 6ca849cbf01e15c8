import { VolumeError } from '../errors.ts';
import type { FsType, Host } from '../host/host.ts';
import { formatBytes, formatExactBytes, GiB, MiB, roundUp, TiB } from '../units.ts';

/** Image sizes are multiples of this, so that they are whole numbers of sectors and filesystem blocks. */
export const imageUnit = MiB;
/** The size of a volume whose request specifies none. */
const defaultSizeBytes = GiB;
/** The maximum file size on ext4 with 4 KiB blocks, rounded down. */
export const maxImageBytes = 16n * TiB - GiB;

/** Minimum image size for the filesystem; a raw block volume needs 1 MiB. */
export function minBytesOf(filesystems: Host['filesystems'], fsType: FsType | null): bigint {
  return fsType === null ? MiB : filesystems[fsType].minBytes;
}

/** The maximum size to which a filesystem can grow in one step. */
export interface GrowthLimit {
  readonly factor: bigint;
  readonly presentBytes: bigint;
  readonly maxBytes: bigint;
}

/**
 * Returns undefined without a filesystem, and if its growth is not limited. `image.sizeBytes` is used if the image has no valid superblock.
 */
export async function findGrowthLimit(
  filesystems: Host['filesystems'],
  fsType: FsType | null,
  image: { readonly path: string; readonly sizeBytes: bigint },
): Promise<GrowthLimit | undefined> {
  const filesystem = fsType === null ? undefined : filesystems[fsType];
  const factor = filesystem?.maxGrowthFactor;
  if (filesystem === undefined || factor === undefined) return undefined;
  const superblock = await filesystem.readSuperblock(image.path);
  const presentBytes = superblock?.sizeBytes ?? image.sizeBytes;
  return { factor, presentBytes, maxBytes: presentBytes * factor };
}

export interface CapacityRange {
  readonly requiredBytes: bigint;
  /** 0 means no limit. */
  readonly limitBytes: bigint;
}

/**
 * Returns the size of a new or grown image: the required bytes rounded up to a MiB, but at least `minBytes`. Throws `out-of-range`
 * if that size exceeds the limit of the request or the maximum size of an image (CSI spec, "CreateVolume Errors").
 */
export function chooseCapacity(
  range: CapacityRange,
  options: { minBytes: bigint; defaultBytes?: bigint; subject: string },
): bigint {
  const { minBytes, defaultBytes = defaultSizeBytes, subject } = options;
  const { requiredBytes, limitBytes } = range;
  if (requiredBytes < 0n || limitBytes < 0n) {
    throw new VolumeError(
      'invalid',
      `${subject}: the required size of ${requiredBytes} bytes and the limit of ${limitBytes} bytes must not be negative`,
    );
  }
  const minimum = roundUp(minBytes, imageUnit);
  const wanted = requiredBytes > 0n ? requiredBytes : withinLimit(defaultBytes, limitBytes);
  const rounded = roundUp(wanted, imageUnit);
  const size = rounded < minimum ? minimum : rounded;
  if (limitBytes > 0n && size > limitBytes) {
    throw new VolumeError(
      'out-of-range',
      `${subject}: the limit of ${formatExactBytes(limitBytes)} is less than the size of the volume, ${formatExactBytes(size)}, ` +
        `which is a multiple of 1 MiB and at least ${formatExactBytes(minimum)}; raise the limit`,
    );
  }
  if (size > maxImageBytes) {
    throw new VolumeError(
      'out-of-range',
      `${subject}: ${formatExactBytes(size)} exceed the maximum size of a volume, ${formatBytes(maxImageBytes)} (${formatExactBytes(maxImageBytes)}); request a smaller size`,
    );
  }
  return size;
}

function withinLimit(bytes: bigint, limitBytes: bigint): bigint {
  if (limitBytes === 0n || bytes <= limitBytes) return bytes;
  const floor = (limitBytes / imageUnit) * imageUnit;
  return floor > 0n ? floor : 1n;
}

/** Whether an existing size satisfies a request (CSI spec, "CreateVolume"). */
export function isInRange(sizeBytes: bigint, range: CapacityRange): boolean {
  if (sizeBytes < range.requiredBytes) return false;
  return range.limitBytes === 0n || sizeBytes <= range.limitBytes;
}
