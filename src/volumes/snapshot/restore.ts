import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { hasErrno, KernelError } from '../../host/errors.ts';
import type { FsType, ImageStatus } from '../../host/host.ts';
import { type VolumeRecord, volumeRecord } from '../../state/records.ts';
import { formatBytes } from '../../units.ts';
import { newRecord } from '../attachment/new-volume-record.ts';
import type { Domain } from '../domain.ts';
import { toVolumeError, withReason } from '../engine/failures.ts';
import type { Operation } from '../engine/operations.ts';
import type { VolumeId } from '../ids.ts';
import { copyNoted, copySourceOf, type HalfCopy, holdsHalfCopy } from '../jobs/restore-copies.ts';
import type { CreateVolumeInput, Volume, VolumeSource } from '../model.ts';
import { commitNew } from '../pool/commit.ts';
import { imageFile } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import type { FoundSnapshot } from '../pool/pools.ts';
import { type Capture, canShare, planCapture, takeCaptures } from './capture.ts';
import {
  chooseSize,
  type Origin,
  requireGrowable,
  requireSameFormat,
  withSourceDefaults,
} from './restore-source.ts';

/**
 * Restore of a snapshot or clone of a volume (CSI spec, CreateVolume with `volume_content_source`), under the locks of both:
 * clone, log replay, new UUID, verification, growth, all in `tmp/`. By default in the source's pool and of its size. Throws
 * `not-found` without a source, `busy` while it is being copied, `invalid` for another kind, `out-of-range` when smaller.
 */
export async function createFromSource(
  domain: Domain,
  operation: Operation,
  draft: { id: VolumeId; input: CreateVolumeInput; source: VolumeSource },
): Promise<Volume> {
  const { id, input, source } = draft;
  const what = `volume '${input.name}'`;
  const { pool: home, imagePath } = foundSource(domain, source);
  const pool = input.settings.pool === undefined ? home : domain.pools.named(input.settings.pool);
  const make = async (): Promise<Volume> => {
    const origin = await originOf(domain, source, { id, pool, what });
    const like = withSourceDefaults(input, origin);
    requireSameFormat(like, origin, what);
    const sizeBytes = chooseSize(domain, input, origin, what);
    await requireGrowable(domain, source, { origin, sizeBytes, what });
    const record = newRecord(domain, { id, input: like, sizeBytes });
    operation.beginEffects();
    const half = await findHalfCopy(domain, id, { origin, pool });
    // What it has allocated is gone from the pool's free blocks already.
    const rest = sizeBytes - (half?.allocatedBytes ?? 0n);
    const bytes = (rest > 0n ? rest : 0n) + origin.sharedBytes;
    const reservation = await pool.space.reserve(bytes, what);
    if (half !== undefined) domain.restores.take(id);
    try {
      const made = await commitNew(domain, {
        pool,
        area: 'volumes',
        id,
        schema: volumeRecord,
        images: [imageFile],
        begun: half?.directory,
        staysAfterFailure: async (directory) =>
          operation.isClosing() && (await holdsHalfCopy(domain.host.files, directory)),
        placed: (placed) => {
          pool.volumes.put(placed);
        },
        build: async (directory) => {
          const resumeFrom = half?.doneBytes ?? 0n;
          await build(domain, origin, { directory, record, operation, resumeFrom });
          return record;
        },
      });
      return { record: made, pool: pool.name };
    } finally {
      // Blocks that the source shares now are not its own any more.
      pool.space.invalidate();
      reservation.release();
    }
  };
  const sourceName = `${what}: ${source.kind} '${source.id}'`;
  return withReason(what, pool, () => withSourceReason({ sourceName, home, imagePath }, make));
}

function foundSource(domain: Domain, { kind, id }: VolumeSource): FoundSnapshot | FoundVolume {
  return kind === 'snapshot' ? domain.pools.getSnapshot(id) : domain.pools.getVolume(id);
}

async function originOf(
  domain: Domain,
  source: VolumeSource,
  options: { id: VolumeId; pool: Pool; what: string },
): Promise<Origin> {
  const { id, pool, what } = options;
  if (source.kind === 'volume') {
    const volume = domain.pools.getVolume(source.id);
    const capture = await planCapture(domain, volume, { pool, freezeForCopy: false, what });
    return {
      ...volume.record,
      what: `volume '${source.id}'`,
      pool: volume.pool,
      image: capture.image,
      sharedBytes: capture.isShared ? capture.image.allocatedBytes : 0n,
      take: (to, operation) => captureOne(domain, capture, { to, what, ...copyOptions(operation) }),
    };
  }
  const snapshot = domain.pools.getSnapshot(source.id);
  snapshot.pool.requireServed();
  if (snapshot.record.state === 'copying') {
    throw new VolumeError(
      'busy',
      `${what}: snapshot '${source.id}' is still being copied; try again when it is ready to use`,
    );
  }
  const image = await requireWholeImage(domain, snapshot);
  const copySource = copySourceOf(snapshot.record, image);
  return {
    ...snapshot.record,
    what: `snapshot '${source.id}'`,
    pool: snapshot.pool,
    image,
    sharedBytes: 0n,
    copySource,
    take: (to, operation, resumeFrom) =>
      copyImage(domain, snapshot.imagePath, {
        pools: [snapshot.pool, pool],
        copy: { to, volumeId: id, source: copySource, resumeFrom, operation },
      }),
  };
}

/** Explains a failure of the source's image by the pool of the source: the new volume may be in another one. */
async function withSourceReason<T>(
  source: { readonly sourceName: string; readonly home: Pool; readonly imagePath: string },
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { sourceName, home, imagePath } = source;
    const isOfSource = error instanceof KernelError && error.subject.endsWith(imagePath);
    throw isOfSource ? await toVolumeError(error, sourceName, home) : error;
  }
}

/** A copy of an image that lost its end would be a smaller volume, or one whose end reads as zeros. */
async function requireWholeImage(
  domain: Domain,
  { record, imagePath }: FoundSnapshot,
): Promise<ImageStatus> {
  const what = `snapshot '${record.id}'`;
  let image: ImageStatus;
  try {
    image = await domain.host.files.imageStatus(imagePath);
  } catch (cause) {
    if (!hasErrno(cause, 'ENOENT')) throw cause;
    throw new VolumeError(
      'unavailable',
      `${what}: its image ${imagePath} is gone, its record is there; restore the image, or delete the snapshot`,
      { cause },
    );
  }
  if (image.sizeBytes >= record.sizeBytes) return image;
  throw damaged(
    { what },
    `its image ${imagePath} has ${formatBytes(image.sizeBytes)} of ${formatBytes(record.sizeBytes)}: it was truncated`,
  );
}

/** What an earlier run of the driver copied for this volume, where a copy is needed at all. */
async function findHalfCopy(
  domain: Domain,
  id: VolumeId,
  { origin, pool }: { origin: Origin; pool: Pool },
): Promise<HalfCopy | undefined> {
  const { copySource: source } = origin;
  if (source === undefined || (await canShare(domain.host.files, origin.pool, pool)))
    return undefined;
  return domain.restores.find(id, { pool, source });
}

interface CopyOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (doneBytes: bigint, totalBytes: bigint) => void;
}

function copyOptions(operation: Operation): CopyOptions {
  return {
    signal: operation.signal,
    onProgress: (doneBytes, totalBytes) => {
      operation.reportProgress({ doneBytes, totalBytes });
    },
  };
}

async function captureOne(
  domain: Domain,
  capture: Capture,
  options: CopyOptions & { to: string; what: string },
): Promise<void> {
  const { frozenMs } = await takeCaptures(domain, [{ capture, to: options.to }], options);
  if (frozenMs > 0) {
    domain.log.info(
      { volumeId: capture.source.record.id, frozenMs },
      'volume frozen for its clone',
    );
  }
}

/** A snapshot never changes, so it can be copied where it cannot be shared. */
async function copyImage(
  domain: Domain,
  from: string,
  options: { pools: readonly [Pool, Pool]; copy: Parameters<typeof copyNoted>[2] },
): Promise<void> {
  const { pools, copy } = options;
  if (await canShare(domain.host.files, ...pools)) {
    try {
      await domain.host.copies.reflink(from, copy.to);
      return;
    } catch (error) {
      if (!hasErrno(error, 'EXDEV', 'EOPNOTSUPP', 'EINVAL')) throw error;
    }
  }
  await copyNoted(domain, from, copy);
}

/** Order matters: the new UUID before anybody else can attach it, growth last, so that a tuner meets a filesystem as it was made. */
async function build(
  domain: Domain,
  origin: Origin,
  options: { directory: string; record: VolumeRecord; operation: Operation; resumeFrom: bigint },
): Promise<void> {
  const { directory, record, operation, resumeFrom } = options;
  const { files, filesystems } = domain.host;
  const image = join(directory, imageFile);
  const allocate = record.provisioning === 'thick';
  await origin.take(image, operation, resumeFrom);
  // Of a thick source btrfs also clones the blocks that were only ever reserved.
  if (!allocate && origin.provisioning === 'thick') await files.punchUnwritten(image);
  await domain.reached('restore:taken');
  const { sectorSize, fsType, fsUuid } = record;
  const work = { sectorSize, workDir: directory };
  if (fsType !== null && fsUuid !== null) {
    await requireSound(domain, image, origin, fsType);
    await filesystems[fsType].renewUuid(image, { ...work, uuid: fsUuid });
    await domain.reached('restore:uuid-renewed');
  }
  if (record.sizeBytes > origin.image.sizeBytes || allocate) {
    await files.growImage(image, { sizeBytes: record.sizeBytes, allocate });
  }
  if (fsType !== null) {
    await filesystems[fsType].growImage(image, work);
    // Its checker and its log replay may have given blocks back.
    if (allocate) await files.growImage(image, { sizeBytes: record.sizeBytes, allocate });
  }
  await domain.reached('restore:grown');
}

/** A copy of something damaged is refused before anything rewrites it. */
async function requireSound(
  domain: Domain,
  image: string,
  origin: Origin,
  fsType: FsType,
): Promise<void> {
  const filesystem = domain.host.filesystems[fsType];
  const superblock = await filesystem.readSuperblock(image);
  if (superblock === undefined) {
    throw damaged(origin, `it holds no valid ${fsType} superblock`);
  }
  if (superblock.state !== 'has-errors') return;
  const result = await filesystem.check(image);
  if (result.outcome === 'damaged') throw damaged(origin, result.detail);
}

function damaged(origin: Pick<Origin, 'what'>, detail: string): VolumeError {
  return new VolumeError(
    'wrong-state',
    `${origin.what} is damaged and no volume was made of it: ${detail}; use another snapshot or a backup`,
  );
}
