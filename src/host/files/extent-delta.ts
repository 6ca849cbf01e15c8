import type { ByteRange, Extent } from '../host.ts';
import { constants } from '../kernel/abi.ts';

/** Flags of extents whose physical address is not reliable. */
const unreliableAddress =
  constants.FIEMAP_EXTENT_UNKNOWN |
  constants.FIEMAP_EXTENT_DELALLOC |
  constants.FIEMAP_EXTENT_ENCODED |
  constants.FIEMAP_EXTENT_DATA_ENCRYPTED |
  constants.FIEMAP_EXTENT_NOT_ALIGNED |
  constants.FIEMAP_EXTENT_DATA_INLINE |
  constants.FIEMAP_EXTENT_DATA_TAIL;

/** The start of an extent map. */
interface MapWindow {
  readonly extents: readonly Extent[];
  /** The extents are complete up to this offset. */
  readonly to: bigint;
}

/**
 * Returns the first batch of a map as a window. The window ends with the last extent of the batch, or at `end` if that
 * is the last extent of the file.
 */
export function windowOf(batch: readonly Extent[], end: bigint): MapWindow {
  const final = batch.at(-1);
  if (final === undefined || (final.flags & constants.FIEMAP_EXTENT_LAST) !== 0)
    return { extents: batch, to: end };
  const to = final.logical + final.length;
  return { extents: batch, to: to < end ? to : end };
}

/** Whether both maps are equal up to `to`. The SHARED flag is ignored, since it may change at any time. */
export function isSameMap(a: MapWindow, b: MapWindow, to: bigint): boolean {
  if (a.to < to || b.to < to) return false;
  const before = ({ extents }: MapWindow) => extents.filter(({ logical }) => logical < to);
  const [left, right] = [before(a), before(b)];
  return (
    left.length === right.length &&
    left.every((extent, i) => {
      const other = right[i];
      return (
        other !== undefined &&
        extent.logical === other.logical &&
        extent.physical === other.physical &&
        extent.length === other.length &&
        comparableFlags(extent) === comparableFlags(other)
      );
    })
  );
}

function comparableFlags({ flags }: Extent): number {
  return flags & ~(constants.FIEMAP_EXTENT_LAST | constants.FIEMAP_EXTENT_SHARED);
}

/**
 * The ranges between `from` and `to` in which two files of one filesystem may differ. Extents with equal physical
 * addresses at the same offset have equal bytes; holes and unwritten extents read as zeroes; everything else counts as
 * changed. Adjacent ranges are joined.
 */
export function findDifferences(
  a: readonly Extent[],
  b: readonly Extent[],
  range: { from: bigint; to: bigint },
): readonly ByteRange[] {
  const found: { offset: bigint; length: bigint }[] = [];
  const cursors = [new Cursor(a), new Cursor(b)] as const;
  let at = range.from;
  while (at < range.to) {
    const [left, right] = [cursors[0].at(at), cursors[1].at(at)];
    const ends = [left.end, right.end, range.to].filter((end) => end !== undefined);
    const end = ends.reduce((min, one) => (one < min ? one : min));
    if (!haveSameData(left.extent, right.extent)) {
      const previous = found.at(-1);
      if (previous !== undefined && previous.offset + previous.length === at) {
        previous.length += end - at;
      } else found.push({ offset: at, length: end - at });
    }
    at = end;
  }
  return found;
}

/** Iterates over extents in ascending order. */
class Cursor {
  readonly #extents: readonly Extent[];
  #index = 0;

  constructor(extents: readonly Extent[]) {
    this.#extents = extents;
  }

  /**
   * Returns the extent at an offset, or undefined for a hole, and where it ends (undefined for the last hole). Offsets
   * must not decrease between calls.
   */
  at(offset: bigint): { extent: Extent | undefined; end: bigint | undefined } {
    let extent = this.#extents[this.#index];
    while (extent !== undefined && extent.logical + extent.length <= offset) {
      this.#index += 1;
      extent = this.#extents[this.#index];
    }
    if (extent === undefined) return { extent: undefined, end: undefined };
    if (extent.logical > offset) return { extent: undefined, end: extent.logical };
    return { extent, end: extent.logical + extent.length };
  }
}

function haveSameData(a: Extent | undefined, b: Extent | undefined): boolean {
  if (isZero(a) && isZero(b)) return true;
  if (a === undefined || b === undefined || isZero(a) || isZero(b)) return false;
  if (((a.flags | b.flags) & unreliableAddress) !== 0) return false;
  return a.physical - a.logical === b.physical - b.logical;
}

function isZero(extent: Extent | undefined): boolean {
  return extent === undefined || isUnwritten(extent);
}

/** Whether the extent is allocated but was never written. It reads as zeroes. */
export function isUnwritten({ flags }: Extent): boolean {
  return (flags & constants.FIEMAP_EXTENT_UNWRITTEN) !== 0;
}
