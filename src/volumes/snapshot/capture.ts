import { settleAll } from '../../async.ts';
import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files, Freeze, ImageStatus, LoopDevice } from '../../host/host.ts';
import { formatBytes, MiB } from '../../units.ts';
import {
  type Attachment,
  attachmentOf,
  filesystemMountOf,
  imageStatusOf,
} from '../attachment/attachment.ts';
import { recoverImage, requireNotTruncated } from '../attachment/prepare-image.ts';
import type { Domain } from '../domain.ts';
import { inLane, type LaneSpec } from '../engine/lanes.ts';
import { freezeAdvice } from '../model.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';

/**
 * How the data of a volume is captured at one point in time: by sharing its blocks, or by copying them while nothing can write. A
 * mounted filesystem is frozen for that time. A raw block device in use is flushed, so its clone contains what would have survived
 * a power loss.
 */
export interface Capture {
  readonly source: FoundVolume;
  readonly image: ImageStatus;
  /** The image is cloned with FICLONE; otherwise its data extents are copied. */
  readonly isShared: boolean;
  readonly freeze: { readonly target: string; readonly device: LoopDevice } | undefined;
  /** An attached device whose page cache is written back first. */
  readonly flush: LoopDevice | undefined;
  /** A raw block device in use, which cannot be frozen: its user may write during the capture. */
  readonly isLive: boolean;
  /** Time limit of the freeze. When it expires, the filesystem is thawed and the capture fails. */
  readonly timeoutMs: number;
}

/** For how many milliseconds these volumes will be frozen at most, one after the other; 0 for those that are not frozen. */
export function plannedFreezeMs(captures: readonly Capture[]): number {
  return captures.reduce(
    (sum, { freeze, timeoutMs }) => sum + (freeze === undefined ? 0 : timeoutMs - graceMs),
    0,
  );
}

/** A reflink takes about 10 µs per extent. The limit is ten times that, plus a grace period for the freeze itself. */
const boundMsPerExtent = 0.1;
const graceMs = 10_000;
/** Processes that write to a frozen filesystem cannot even be killed, so no freeze may take longer. */
const maxFreezeMs = 10 * 60_000;
/** The minimum write rate expected of a copy, in bytes per second. */
const copyBytesPerSecond = 100n * MiB;

/**
 * Decides how `source` can be captured into `pool`. Throws `wrong-state`, with advice, for a volume that is in use and cannot be
 * frozen or must be copied, for one in use in another mount namespace, and for a truncated image.
 */
export async function planCapture(
  domain: Domain,
  source: FoundVolume,
  options: { pool: Pool; freezeForCopy: boolean; subject: string },
): Promise<Capture> {
  const { pool, subject } = options;
  source.pool.requireServed();
  const attachment = await attachmentOf(domain, source);
  await recoverImage(domain, source, attachment.devices);
  const image = await imageStatusOf(domain.host.files, source);
  await requireNotTruncated(domain, source, image);
  const isShared = await canShare(domain.host.files, source.pool, pool);
  const device = attachment.readWrite;
  const base = { source, image, isShared, flush: device, freeze: undefined, isLive: false };
  if (device === undefined) return { ...base, timeoutMs: maxFreezeMs };
  if (source.record.kind === 'block') {
    const isLive = await isInUse(domain, attachment);
    if (isLive && !isShared) throw liveCopyError(subject, source);
    return { ...base, isLive, timeoutMs: maxFreezeMs };
  }
  const mount = filesystemMountOf(attachment);
  if (mount === undefined) {
    if (await domain.host.loops.isInUse(device)) throw mountedElsewhereError(subject, device);
    return { ...base, timeoutMs: maxFreezeMs };
  }
  if (!isShared && !options.freezeForCopy) throw needsFreezeError(subject, source, pool);
  const timeoutMs = isShared
    ? graceMs + boundMsPerExtent * (await domain.host.extents.count(source.imagePath))
    : graceMs + Number((image.allocatedBytes * 2000n) / copyBytesPerSecond);
  if (timeoutMs > maxFreezeMs) throw freezeTooLongError(subject, source, { isShared, image });
  return { ...base, freeze: { target: mount.target, device }, timeoutMs };
}

/** Whether images of both pools can share blocks. */
export async function canShare(files: Files, from: Pool, to: Pool): Promise<boolean> {
  if (from.abilities?.reflink !== true || to.abilities?.reflink !== true) return false;
  if (from === to) return true;
  const [a, b] = await Promise.all([files.status(from.root), files.status(to.root)]);
  return a.device === b.device;
}

async function isInUse(domain: Domain, attachment: Attachment): Promise<boolean> {
  if (attachment.mounts.length > 0) return true;
  for (const device of attachment.devices) if (await domain.host.loops.isInUse(device)) return true;
  return false;
}

export interface CaptureResult {
  /** The point in time, in milliseconds since the epoch. */
  readonly atMs: number;
  /** For how many milliseconds filesystems were frozen; 0 if none was. */
  readonly frozenMs: number;
}

/** The steps of a capture. */
export type BarrierStep = 'flush' | 'freeze' | 'cut' | 'thaw';

export interface CaptureOptions {
  readonly subject: string;
  readonly signal: AbortSignal;
  readonly onProgress?: (doneBytes: bigint, totalBytes: bigint) => void;
  /** Waits for other nodes that capture at the same time. What is frozen is thawed if one of the waits fails. */
  readonly barrier?: {
    /** Waits until this may be done. */
    readonly before: (step: BarrierStep) => Promise<void>;
    /** For how many milliseconds filesystems may be frozen, the waits included. */
    readonly freezeLimitMs: number;
  };
}

/**
 * Captures all volumes at one point in time into the new files `to`: flushes all, freezes all, clones or copies all, and always
 * thaws all. Throws `busy` if another process has frozen one, `unavailable` if the time limit of the freeze expired.
 */
export async function captureVolumes(
  domain: Domain,
  captures: readonly { readonly capture: Capture; readonly to: string }[],
  options: CaptureOptions,
): Promise<CaptureResult> {
  const { barrier } = options;
  await barrier?.before('flush');
  await writeBackPages(domain, captures);
  await barrier?.before('freeze');
  const freeze = await freezeAll(
    domain,
    captures.map(({ capture }) => capture),
    options,
  );
  let frozenMs = 0;
  let atMs = domain.now();
  try {
    await domain.reached('capture:frozen');
    await barrier?.before('cut');
    atMs = domain.now();
    await copyImages(domain, captures, options);
    await domain.reached('capture:taken');
    await barrier?.before('thaw');
  } finally {
    frozenMs = await thaw(freeze, options.subject);
    if (freeze !== undefined)
      domain.observer.freezeEnded({ cause: 'snapshot', durationMs: frozenMs });
  }
  await domain.reached('capture:thawed');
  return { atMs, frozenMs };
}

/** Writes dirty pages back before the freeze, so that writers do not wait for that during the freeze. */
async function writeBackPages(
  domain: Domain,
  captures: readonly { readonly capture: Capture }[],
): Promise<void> {
  await settleAll(
    captures.map(async ({ capture }) => {
      const { loops, mounts } = inLane(domain, laneOf(capture)).host;
      if (capture.freeze !== undefined) await mounts.syncFilesystem(capture.freeze.target);
      if (capture.flush !== undefined) await loops.sync(capture.flush);
    }),
  );
}

async function freezeAll(
  domain: Domain,
  captures: readonly Capture[],
  { subject, barrier }: CaptureOptions,
): Promise<Freeze | undefined> {
  const frozen = captures.filter(({ freeze }) => freeze !== undefined);
  if (frozen.length === 0) return undefined;
  const timeoutMs =
    barrier?.freezeLimitMs ??
    Math.ceil(frozen.reduce((sum, capture) => sum + capture.timeoutMs, 0));
  try {
    return await domain.host.freezer.freeze(
      frozen.flatMap(({ freeze }) => (freeze === undefined ? [] : [freeze])),
      { timeoutMs },
    );
  } catch (cause) {
    if (!hasErrno(cause, 'EBUSY')) throw cause;
    throw new VolumeError(
      'busy',
      `${subject}: its filesystem is frozen by another process (fsfreeze, or another snapshot); try again when it is thawed`,
      { cause },
    );
  }
}

/** Copies each image in its own lane, so that the clones of a group run in parallel. */
async function copyImages(
  domain: Domain,
  captures: readonly { readonly capture: Capture; readonly to: string }[],
  options: CaptureOptions,
): Promise<void> {
  await settleAll(
    captures.map(async ({ capture, to }) => {
      const { copies } = inLane(domain, laneOf(capture)).host;
      const from = capture.source.imagePath;
      if (capture.isShared) await copies.reflink(from, to);
      else await copies.copySparse(from, to, options);
    }),
  );
}

async function thaw(freeze: Freeze | undefined, subject: string): Promise<number> {
  try {
    return Math.round((await freeze?.thaw()) ?? 0);
  } catch (cause) {
    if (!hasErrno(cause, 'ETIMEDOUT', 'ECHILD')) throw cause;
    throw new VolumeError(
      'unavailable',
      `${subject}: the time limit of the freeze expired before all data was captured, so nothing was kept; try again when the pool is less busy`,
      { cause },
    );
  }
}

function needsFreezeError(subject: string, source: FoundVolume, pool: Pool): VolumeError {
  const { name } = source.pool;
  const [why, otherPool] =
    pool === source.pool
      ? [
          `pool '${name}' cannot share blocks`,
          'keep it in a pool with reflink (XFS, btrfs, or an embedded one)',
        ]
      : [
          `pool '${pool.name}' cannot share blocks with its pool '${name}'`,
          `leave the copy in pool '${name}'`,
        ];
  return new VolumeError(
    'wrong-state',
    `${aboutSource(subject, source)} is in use, and its data must be copied: ${why}. ` +
      `Allow its filesystem to be frozen for the whole copy (${freezeAdvice}), ` +
      `stop its users first, or ${otherPool}`,
  );
}

/** The subject of an export is the volume itself, which is then named once. */
function aboutSource(
  subject: string,
  { record }: FoundVolume,
  noun: 'volume' | 'block volume' = 'volume',
): string {
  const source = `${noun} '${record.id}'`;
  return subject === `volume '${record.name}'` ? source : `${subject}: ${source}`;
}

function liveCopyError(subject: string, source: FoundVolume): VolumeError {
  return new VolumeError(
    'wrong-state',
    `${aboutSource(subject, source, 'block volume')} is in use, cannot be frozen, and pool '${source.pool.name}' cannot share blocks; ` +
      'stop its users first, or keep it in a pool with reflink (XFS, btrfs, or an embedded one)',
  );
}

function mountedElsewhereError(subject: string, device: LoopDevice): VolumeError {
  return new VolumeError(
    'wrong-state',
    `${subject}: ${device.path} is in use in another mount namespace, where its filesystem cannot be frozen; stop its user there first`,
  );
}

function freezeTooLongError(
  subject: string,
  source: FoundVolume,
  facts: { isShared: boolean; image: ImageStatus },
): VolumeError {
  const why = facts.isShared
    ? 'its image has too many extents'
    : `${formatBytes(facts.image.allocatedBytes)} have to be copied`;
  return new VolumeError(
    'wrong-state',
    `${subject}: volume '${source.record.id}' would be frozen for more than ${maxFreezeMs / 60_000} minutes, because ${why}; stop its users first`,
  );
}

function laneOf({ source: { record, pool } }: Capture): LaneSpec {
  return { kind: 'capture', id: record.id, pool: pool.name };
}
