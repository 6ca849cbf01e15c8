import { VolumeError } from '../errors.ts';
import type { FsType, Host } from '../host/host.ts';
import { formatBytes, GiB, MiB, roundUp, TiB } from '../units.ts';

/** Images are multiples of this, so that sectors and filesystem blocks always fit. */
export const imageUnit = MiB;
/** The size of a volume if the call asks for none. */
export const defaultSizeBytes = GiB;
/** The maximum file size of an ext4 pool with 4 KiB blocks, rounded down. */
export const maxImageBytes = 16n * TiB - GiB;

/** Minimum image size for the filesystem; a raw block volume needs 1 MiB. */
export function minBytesOf(filesystems: Host['filesystems'], fsType: FsType | null): bigint {
  return fsType === null ? MiB : filesystems[fsType].minBytes;
}

export interface CapacityRange {
  readonly requiredBytes: bigint;
  /** 0: no limit. */
  readonly limitBytes: bigint;
}

/**
 * The size of a new or grown image: the required bytes rounded up to a MiB, at least `minBytes`. Throws `out-of-range` if the
 * limit is below that size, or the size above the maximum (CSI spec, "CreateVolume Errors").
 */
export function chooseCapacity(
  range: CapacityRange,
  options: { minBytes: bigint; defaultBytes?: bigint; subject: string },
): bigint {
  const { minBytes, defaultBytes = defaultSizeBytes, subject } = options;
  const { requiredBytes, limitBytes } = range;
  if (requiredBytes < 0n || limitBytes < 0n) {
    throw new VolumeError('invalid', `${subject}: sizes must not be negative`);
  }
  const minimum = roundUp(minBytes, imageUnit);
  const asked = requiredBytes > 0n ? requiredBytes : withinLimit(defaultBytes, limitBytes);
  const rounded = roundUp(asked, imageUnit);
  const size = rounded < minimum ? minimum : rounded;
  if (limitBytes > 0n && size > limitBytes) {
    throw new VolumeError(
      'out-of-range',
      `${subject}: the limit of ${limitBytes} bytes is below the size that the volume would have, ${formatBytes(size)} (${size} bytes); ` +
        `sizes are rounded up to 1 MiB, and the minimum is ${formatBytes(minimum)}`,
    );
  }
  if (size > maxImageBytes) {
    throw new VolumeError(
      'out-of-range',
      `${subject}: ${size} bytes is more than the maximum size of a volume, ${formatBytes(maxImageBytes)}`,
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
