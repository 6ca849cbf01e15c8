import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import { ext4MaxGrowthFactor } from '../../host/filesystem/ext4-superblock.ts';
import type { FsType, ImageStatus, SectorSize } from '../../host/host.ts';
import { type VolumeRecord, volumeRecord } from '../../state/records.ts';
import { formatBytes } from '../../units.ts';
import { chooseCapacity } from '../capacity.ts';
import { commitNew } from '../controller/new-entry.ts';
import { leastBytesOf, newRecord } from '../controller/new-volume.ts';
import type { Domain } from '../domain.ts';
import { explained } from '../failures.ts';
import type { VolumeId } from '../ids.ts';
import type { CreateVolumeInput, Volume, VolumeKind, VolumeSource } from '../model.ts';
import type { Operation } from '../operations.ts';
import type { Pool } from '../pools/pool.ts';
import { type Cut, canShare, planCut, takeCuts } from './cut.ts';

/** What a new volume starts from. */
interface Origin {
  readonly what: string;
  readonly pool: Pool;
  readonly kind: VolumeKind;
  readonly fsType: FsType | null;
  readonly sectorSize: SectorSize;
  readonly provisioning: VolumeRecord['provisioning'];
  readonly image: ImageStatus;
  /** Puts its bytes into a new file. */
  readonly take: (to: string, operation: Operation) => Promise<void>;
  /** Bytes that become shared with the copy and so must be promised to the source again: a volume's, on a reflink pool. */
  readonly sharedBytes: bigint;
}

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
  const home = sourcePool(domain, source);
  const pool = input.settings.pool === undefined ? home : domain.pools.named(input.settings.pool);
  return explained(what, pool, async () => {
    const origin = await originOf(domain, source, { pool, what });
    const like = withOpenOf(input, origin);
    requireLikeSource(like, origin, what);
    const sizeBytes = sizeFor(domain, input, origin, what);
    await requireGrowth(domain, source, { origin, sizeBytes, what });
    const record = newRecord(domain, { id, input: like, sizeBytes });
    operation.beginEffects();
    const reservation = await pool.room.reserve(sizeBytes + origin.sharedBytes, what);
    try {
      const made = await commitNew(domain, {
        pool,
        area: 'volumes',
        id,
        file: 'volume.json',
        schema: volumeRecord,
        images: ['disk.img'],
        placed: (placed) => {
          pool.volumes.put(placed);
        },
        build: async (directory) => {
          await build(domain, origin, { directory, record, operation });
          return record;
        },
      });
      return { record: made, pool: pool.name };
    } finally {
      // Blocks that the source shares now are not its own any more.
      pool.room.invalidate();
      reservation.release();
    }
  });
}

function sourcePool(domain: Domain, source: VolumeSource): Pool {
  return source.kind === 'snapshot'
    ? domain.pools.getSnapshot(source.id).pool
    : domain.pools.getVolume(source.id).pool;
}

async function originOf(
  domain: Domain,
  source: VolumeSource,
  options: { pool: Pool; what: string },
): Promise<Origin> {
  const { pool, what } = options;
  if (source.kind === 'volume') {
    const volume = domain.pools.getVolume(source.id);
    const cut = await planCut(domain, volume, { pool, freezeForCopy: false, what });
    return {
      ...volume.record,
      what: `volume '${source.id}'`,
      pool: volume.pool,
      image: cut.image,
      sharedBytes: cut.isShared ? cut.image.allocatedBytes : 0n,
      take: (to, operation) => takeOne(domain, cut, { to, what, ...copyOptions(operation) }),
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
  const image = await domain.host.files.imageStatus(snapshot.imagePath);
  return {
    ...snapshot.record,
    what: `snapshot '${source.id}'`,
    pool: snapshot.pool,
    image,
    sharedBytes: 0n,
    take: (to, operation) =>
      copyImage(domain, snapshot.imagePath, {
        to,
        pools: [snapshot.pool, pool],
        ...copyOptions(operation),
      }),
  };
}

interface CopyOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (doneBytes: bigint, totalBytes: bigint) => void;
}

function copyOptions(operation: Operation): CopyOptions {
  return {
    signal: operation.signal,
    onProgress: (doneBytes, totalBytes) => {
      operation.tell({ doneBytes, totalBytes });
    },
  };
}

async function takeOne(
  domain: Domain,
  cut: Cut,
  options: CopyOptions & { to: string; what: string },
): Promise<void> {
  const { frozenMs } = await takeCuts(domain, [{ cut, to: options.to }], options);
  if (frozenMs > 0) {
    domain.log.info({ volumeId: cut.source.record.id, frozenMs }, 'volume frozen for its clone');
  }
}

/** A snapshot never changes, so it can be copied where it cannot be shared. */
async function copyImage(
  domain: Domain,
  from: string,
  options: CopyOptions & { to: string; pools: readonly [Pool, Pool] },
): Promise<void> {
  const { to, pools, signal, onProgress } = options;
  if (await canShare(...pools)) {
    try {
      await domain.host.copies.reflink(from, to);
      return;
    } catch (error) {
      if (!hasErrno(error, 'EXDEV', 'EOPNOTSUPP', 'EINVAL')) throw error;
    }
  }
  await domain.host.copies.copySparse(from, to, { signal, onProgress });
}

/** What the request leaves open is as in the source. */
function withOpenOf(input: CreateVolumeInput, origin: Origin): CreateVolumeInput {
  const { sectorSize = origin.sectorSize } = input.settings;
  const fsType = input.fsTypeIsOpen === true ? origin.fsType : input.fsType;
  return { ...input, fsType, settings: { ...input.settings, sectorSize } };
}

/** A block image never becomes a mounted filesystem, nor the other way round, nor one filesystem another. */
function requireLikeSource(input: CreateVolumeInput, origin: Origin, what: string): void {
  if (input.kind !== origin.kind) {
    throw new VolumeError(
      'invalid',
      `${what}: ${origin.what} is of a ${origin.kind} volume and cannot become a ${input.kind} volume`,
    );
  }
  if (input.fsType !== origin.fsType) {
    throw new VolumeError(
      'invalid',
      `${what}: ${origin.what} holds ${origin.fsType ?? 'no filesystem'}, not ${input.fsType ?? 'none'}; ask for what it holds (in Kubernetes: a StorageClass with that fstype)`,
    );
  }
  if (input.settings.sectorSize !== origin.sectorSize) {
    throw new VolumeError(
      'invalid',
      `${what}: ${origin.what} has sectors of ${origin.sectorSize} bytes, which its data was laid out for; use a StorageClass with sectorSize '${origin.sectorSize}'`,
    );
  }
}

function sizeFor(domain: Domain, input: CreateVolumeInput, origin: Origin, what: string): bigint {
  const { sizeBytes } = origin.image;
  const { requiredBytes } = input.range;
  if (requiredBytes > 0n && requiredBytes < sizeBytes) {
    throw new VolumeError(
      'out-of-range',
      `${what}: ${formatBytes(requiredBytes)} is less than the ${formatBytes(sizeBytes)} (${sizeBytes} bytes) of ${origin.what}; ask for at least that`,
    );
  }
  const least = leastBytesOf(domain, origin.fsType);
  const grows = requiredBytes > sizeBytes && origin.fsType !== null;
  const grown = grows ? domain.host.filesystems[origin.fsType].leastGrownBytes : least;
  const leastBytes = sizeBytes > grown ? sizeBytes : grown;
  return chooseCapacity(input.range, { leastBytes, defaultBytes: leastBytes, what });
}

async function requireGrowth(
  domain: Domain,
  source: VolumeSource,
  growth: { origin: Origin; sizeBytes: bigint; what: string },
): Promise<void> {
  const { origin, sizeBytes, what } = growth;
  if (origin.fsType !== 'ext4') return;
  const { imagePath } =
    source.kind === 'snapshot'
      ? domain.pools.getSnapshot(source.id)
      : domain.pools.getVolume(source.id);
  const superblock = await domain.host.filesystems.ext4.readSuperblock(imagePath);
  const most = (superblock?.sizeBytes ?? origin.image.sizeBytes) * ext4MaxGrowthFactor;
  if (sizeBytes <= most) return;
  throw new VolumeError(
    'out-of-range',
    `${what}: the ext4 of ${origin.what} grows at most ${ext4MaxGrowthFactor} times at once, to ${formatBytes(most)}; ask for that, and expand the volume afterwards`,
  );
}

/** Order matters: the new UUID before anybody else can attach it, growth last, so that a tuner meets a filesystem as it was made. */
async function build(
  domain: Domain,
  origin: Origin,
  options: { directory: string; record: VolumeRecord; operation: Operation },
): Promise<void> {
  const { directory, record, operation } = options;
  const { files, filesystems } = domain.host;
  const image = join(directory, 'disk.img');
  const allocate = record.provisioning === 'thick';
  await origin.take(image, operation);
  // Of a thick source btrfs also clones the blocks that were only ever reserved.
  if (!allocate && origin.provisioning === 'thick') await files.releaseUnwritten(image);
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

function damaged(origin: Origin, detail: string): VolumeError {
  return new VolumeError(
    'wrong-state',
    `${origin.what} is damaged and no volume was made of it: ${detail}; use another snapshot or a backup`,
  );
}
