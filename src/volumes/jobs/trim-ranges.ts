import type { ByteRange, Host, LoopDevice } from '../../host/host.ts';
import { GiB, MiB } from '../../units.ts';

/** A multiple of ext4's block groups, because ext4 remembers only complete groups as trimmed. */
const minRangeBytes = 128n * MiB;
const maxRangeBytes = 64n * GiB;
const firstRangeBytes = GiB;
/** Intended duration of the trim of one range: calls on the volume wait for it. */
const rangeTargetMs = 250;
/** btrfs trims by logical addresses, which exceed the size of its device. */
const maxAddress = 0xffff_ffff_ffff_ffffn;

/** A mounted filesystem, and the image below it. */
export interface TrimTarget {
  readonly target: string;
  readonly device: LoopDevice;
  readonly imagePath: string;
}

/** What a trim did, in bytes. */
export interface TrimmedBytes {
  /** Reported by the filesystem (FITRIM). It counts free blocks, whether or not the image had them allocated. */
  readonly discardedBytes: bigint;
  /** Allocated by the image before and after the trim. Writes of other processes during the trim are included. */
  readonly allocatedBeforeBytes: bigint;
  readonly allocatedAfterBytes: bigint;
}

interface TrimControl {
  /** Called before each range: true ends the trim. */
  readonly isStopped: () => boolean;
  /** Called with the trim of each range; never rejects. Until it settles, the mount is busy. */
  readonly onRange?: (range: Promise<unknown>) => void;
  /** Called after each range with the bytes that it returned to the pool; the next range starts when it resolves. */
  readonly pace: (returnedBytes: bigint) => Promise<void>;
}

/** Trims a filesystem range by range, and updates `progress`. Returns `interrupted` if it was stopped. */
export async function trimRanges(
  host: Host,
  at: TrimTarget,
  progress: { -readonly [K in keyof TrimmedBytes]: bigint },
  { isStopped, onRange, pace }: TrimControl,
): Promise<'done' | 'interrupted'> {
  const { target, device, imagePath } = at;
  const allocatedBytes = async (): Promise<bigint> =>
    (await host.files.imageStatus(imagePath)).allocatedBytes;
  if (isStopped()) return 'interrupted';
  progress.allocatedBeforeBytes = await allocatedBytes();
  progress.allocatedAfterBytes = progress.allocatedBeforeBytes;
  let length = firstRangeBytes;
  for (let offset = 0n; offset < maxAddress; ) {
    if (isStopped()) return 'interrupted';
    const range: ByteRange = {
      offset,
      length: offset < device.sizeBytes ? length : maxAddress - offset,
    };
    const startedAtMs = performance.now();
    const trimmed = host.mounts.trim(target, device, range);
    onRange?.(trimmed.catch(() => undefined));
    const bytes = await trimmed;
    // The range begins beyond the end of the filesystem.
    if (bytes === undefined) break;
    offset += range.length;
    length = nextLength(length, performance.now() - startedAtMs);
    progress.discardedBytes += bytes;
    const before = progress.allocatedAfterBytes;
    progress.allocatedAfterBytes = await allocatedBytes();
    await pace(before - progress.allocatedAfterBytes);
  }
  return 'done';
}

/** Doubles or halves the length, so that a range takes about the intended time. */
function nextLength(length: bigint, tookMs: number): bigint {
  if (tookMs > rangeTargetMs && length > minRangeBytes) return length / 2n;
  if (tookMs < rangeTargetMs / 4 && length < maxRangeBytes) return length * 2n;
  return length;
}
