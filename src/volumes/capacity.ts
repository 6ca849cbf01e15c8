import { VolumeError } from '../errors.ts';
import { formatBytes, GiB, MiB, roundUp, TiB } from '../units.ts';

/** Images are multiples of this, so that sectors and filesystem blocks always fit. */
export const imageUnit = MiB;
/** What a volume gets when no size is asked for. */
export const defaultSizeBytes = GiB;
/** The largest image: the largest file of an ext4 pool with 4 KiB blocks, rounded down. */
export const largestImageBytes = 16n * TiB - GiB;

export interface CapacityRange {
  readonly requiredBytes: bigint;
  /** 0: no limit. */
  readonly limitBytes: bigint;
}

/**
 * The size of a new or grown image: what is required, rounded up to a MiB, never below `minBytes`. Throws `out-of-range`
 * when the limit lies below that or the size above every bound (CSI spec, "CreateVolume Errors").
 */
export function chooseCapacity(
  range: CapacityRange,
  options: { minBytes: bigint; defaultBytes?: bigint; what: string },
): bigint {
  const { minBytes, defaultBytes = defaultSizeBytes, what } = options;
  const { requiredBytes, limitBytes } = range;
  if (requiredBytes < 0n || limitBytes < 0n) {
    throw new VolumeError('invalid', `${what}: sizes must not be negative`);
  }
  const least = roundUp(minBytes, imageUnit);
  const asked = requiredBytes > 0n ? requiredBytes : withinLimit(defaultBytes, limitBytes);
  const rounded = roundUp(asked, imageUnit);
  const size = rounded < least ? least : rounded;
  if (limitBytes > 0n && size > limitBytes) {
    throw new VolumeError(
      'out-of-range',
      `${what}: the limit of ${limitBytes} bytes is below the ${formatBytes(size)} (${size} bytes) it would have; ` +
        `sizes are rounded up to 1 MiB and the least size here is ${formatBytes(least)}`,
    );
  }
  if (size > largestImageBytes) {
    throw new VolumeError(
      'out-of-range',
      `${what}: ${size} bytes is more than the largest volume, ${formatBytes(largestImageBytes)}`,
    );
  }
  return size;
}

function withinLimit(bytes: bigint, limitBytes: bigint): bigint {
  if (limitBytes === 0n || bytes <= limitBytes) return bytes;
  const floor = (limitBytes / imageUnit) * imageUnit;
  return floor > 0n ? floor : 1n;
}

/** Whether an existing size answers a request: it lies in the asked range (CSI spec, "CreateVolume"). */
export function liesInRange(sizeBytes: bigint, range: CapacityRange): boolean {
  if (sizeBytes < range.requiredBytes) return false;
  return range.limitBytes === 0n || sizeBytes <= range.limitBytes;
}
