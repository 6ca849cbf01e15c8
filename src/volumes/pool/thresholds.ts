import type { VolumeRecord } from '../../state/records.ts';
import { GiB, MiB } from '../../units.ts';
import type { PoolSettings } from './settings.ts';

/** Dirty pages that one guarded volume may have: its device's writeback limit (strict_limit, max_bytes in sysfs). */
export const dirtyLimitBytes = 16n * MiB;
/** What disks are taken to write at most in a second, while the guard does not look. */
const fastestBytesPerSecond = 2n * GiB;
const quickestLookMs = 50;
const slowestLookMs = 2_000;

export interface Watermarks {
  /** Below it filesystems are frozen. Their own flush must still fit. */
  readonly freezeBytes: bigint;
  /** Below it everything is trimmed, and no new volume is made. */
  readonly trimBytes: bigint;
  /** Above it they are thawed. */
  readonly thawBytes: bigint;
  /** Below it mounts are looked up, so that a freeze need not wait for that. */
  readonly alertBytes: bigint;
}

/**
 * The free bytes at which a guarded pool acts: a freeze flushes what is dirty, and disks write on until it holds, so it begins
 * with 256 MiB left or more; on a small pool with an eighth of it.
 */
export function watermarksOf(totalBytes: bigint, volumes: number): Watermarks {
  const flush = BigInt(volumes) * dirtyLimitBytes + fastestBytesPerSecond / 10n;
  const wanted = flush > 256n * MiB ? flush : 256n * MiB;
  const freezeBytes = wanted < totalBytes / 8n ? wanted : totalBytes / 8n;
  return {
    freezeBytes,
    trimBytes: 2n * freezeBytes,
    thawBytes: 2n * freezeBytes,
    alertBytes: 8n * freezeBytes,
  };
}

/** How long nothing can go wrong: until the disk could have written down to the first watermark. */
export function nextLookMs(freeBytes: bigint, marks: Watermarks): number {
  const left = freeBytes > marks.freezeBytes ? freeBytes - marks.freezeBytes : 0n;
  const milliseconds = Number((left * 1000n) / fastestBytesPerSecond);
  return Math.min(slowestLookMs, Math.max(quickestLookMs, milliseconds));
}

/** Only a pool that promises more than it has can run full by its volumes' doing. */
export function isGuarded({ settings }: { readonly settings: PoolSettings }): boolean {
  const { guard, overcommitPerMille } = settings;
  return guard ?? overcommitPerMille > 1000;
}

/** Whether the guard may have to freeze that volume, so that its dirty pages are kept few. */
export function isFreezable(
  pool: { readonly settings: PoolSettings },
  record: VolumeRecord,
): boolean {
  return isGuarded(pool) && record.provisioning === 'thin' && record.fsType !== null;
}
