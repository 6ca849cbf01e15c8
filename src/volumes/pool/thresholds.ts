/**
 * Free-space levels, intervals and time limits of pools and of the space guard that docs/ describes or several files use. A limit
 * that only one algorithm uses is defined in the file of that algorithm.
 */
import type { VolumeRecord } from '../../state/records.ts';
import { GiB, MiB } from '../../units.ts';
import { isOvercommitted, type PoolSettings } from './settings.ts';

/** Health reports `PoolNearlyFull` below this percentage of free space. */
export const nearlyFullPercent = 5n;
/** `loopcsi doctor` warns below this percentage of free space, before health reports anything. */
export const doctorWarnPercent = 10n;
/** With less free space, the failure of a program on the pool is attributed to lack of space. */
export const fullBytes = MiB;
/** Free inodes that running operations may need for records, temporary files and directories. */
export const minFreeInodes = 64n;

/** Interval at which each pool is checked, since its disk may be unmounted or mounted again. */
export const poolCheckIntervalMs = 5_000;
/** A disk that keeps a call waiting for longer may hang, even if it still answers other calls from caches. */
export const suspectWaitMs = 60_000;
/** A pool whose disk hangs delays the start by at most this time; then the other pools are served. */
export const poolOpenTimeoutMs = 10_000;
/** A pool whose disk takes longer to answer is no longer served, so that calls fail at once instead of hanging. */
export const poolCheckTimeoutMs = 10_000;
/** A call that queries several pools, or needs the records of all, continues without a pool whose disk takes longer to answer. */
export const poolAnswerTimeoutMs = 5_000;

/** Maximum number of volumes that a start, a list or a health check examines concurrently; each may wait for its disk. */
export const maxConcurrentVolumes = 8;

/**
 * Interval of `trim: periodic`: shorter than that of the weekly fstrim.timer of distributions, and long enough to cost almost
 * nothing.
 */
export const periodicTrimIntervalMs = 24 * 3_600_000;
/** Minimum interval at which the guard trims all volumes of a pool below its trim watermark. */
export const guardTrimIntervalMs = 30_000;

/** Maximum size of the dirty pages of a guarded volume: the writeback limit of its device (strict_limit, max_bytes in sysfs). */
export const dirtyLimitBytes = 16n * MiB;
/** The maximum rate at which disks are assumed to write. */
const maxBytesPerSecond = 2n * GiB;
/** Bounds of the interval at which the guard checks the free space of a pool. */
const minCheckIntervalMs = 50;
const maxCheckIntervalMs = 2_000;

export interface Watermarks {
  /** Below it, filesystems are frozen. The data that the freeze flushes must still fit. */
  readonly freezeBytes: bigint;
  /** Below it, all volumes are trimmed, and no new volume is created. */
  readonly trimBytes: bigint;
  /** Above it, frozen filesystems are thawed. */
  readonly thawBytes: bigint;
  /** Below it, the guard tracks the mounts, so that a freeze can start at once. */
  readonly alertBytes: bigint;
}

/**
 * The free space at which the guard acts. A freeze flushes dirty pages, and writes continue until it takes effect, so it starts
 * while at least 256 MiB are free (1/8 of a small pool).
 */
export function watermarksOf(totalBytes: bigint, volumes: number): Watermarks {
  const flush = BigInt(volumes) * dirtyLimitBytes + maxBytesPerSecond / 10n;
  const wanted = flush > 256n * MiB ? flush : 256n * MiB;
  const freezeBytes = wanted < totalBytes / 8n ? wanted : totalBytes / 8n;
  return {
    freezeBytes,
    trimBytes: 2n * freezeBytes,
    thawBytes: 2n * freezeBytes,
    alertBytes: 8n * freezeBytes,
  };
}

/** Milliseconds until the free space must be checked again: the disk cannot reach the freeze watermark earlier. */
export function nextCheckMs(freeBytes: bigint, watermarks: Watermarks): number {
  const left = freeBytes > watermarks.freezeBytes ? freeBytes - watermarks.freezeBytes : 0n;
  const milliseconds = Number((left * 1000n) / maxBytesPerSecond);
  return Math.min(maxCheckIntervalMs, Math.max(minCheckIntervalMs, milliseconds));
}

/** Whether less than that percentage of the filesystem is free. */
export function isFreeBelow(
  { freeBytes, totalBytes }: { readonly freeBytes: bigint; readonly totalBytes: bigint },
  percent: bigint,
): boolean {
  return freeBytes * 100n < totalBytes * percent;
}

/**
 * Whether the guard watches the pool. By default it watches pools with overcommit: no other pool can be filled up by its own
 * volumes.
 */
export function isGuarded({ settings }: { readonly settings: PoolSettings }): boolean {
  return settings.guard ?? isOvercommitted(settings);
}

/** Whether the guard may have to freeze the volume. If so, its dirty pages are limited. */
export function isFreezable(
  pool: { readonly settings: PoolSettings },
  record: VolumeRecord,
): boolean {
  return isGuarded(pool) && record.provisioning === 'thin' && record.fsType !== null;
}
