import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { hasErrno, KernelError } from '../../host/errors.ts';
import type { FsType, SectorSize } from '../../host/host.ts';
import type { VolumeId } from '../../ids.ts';
import type { VolumeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { toVolumeError, withReason } from '../engine/failures.ts';
import type { Operation } from '../engine/operations.ts';
import type { CopyPosition, InterruptedRestore } from '../jobs/interrupted-restores.ts';
import type { CreateVolumeInput, RemoteSource, Volume, VolumeSource } from '../model.ts';
import { checkedMountOptions } from '../parameters/mount-options.ts';
import { imageFile } from '../pool/layout.ts';
import { newVolumeRecord } from '../pool/new-volume-record.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import type { FoundSnapshot } from '../pool/pools.ts';
import { type Capture, canShare, captureVolumes, planCapture } from './capture.ts';
import { filesystemFactsOf } from './filesystem-facts.ts';
import { damagedSourceError, requireWholeImage } from './ready-snapshot.ts';
import { remoteOrigin } from './remote-origin.ts';
import { commitCopiedVolume, copyForVolume, copySourceOf } from './restore-copy.ts';
import {
  asRequestedKind,
  chooseSize,
  type Origin,
  requireGrowable,
  requireSameFormat,
  withSourceDefaults,
} from './restore-source.ts';

/** A volume that is to be made from a source. */
interface SourceDraft {
  readonly id: VolumeId;
  readonly input: CreateVolumeInput;
  readonly source: VolumeSource;
}

/**
 * Restores a snapshot or clones a volume (CSI spec, CreateVolume with `volume_content_source`), under the locks of the new volume
 * and its source. The copy, log replay, new UUID, check and growth all happen in `tmp/`. By default the volume gets the pool and
 * the size of the source. Throws `not-found` without a source, `busy` while the snapshot is being copied, `invalid` for another
 * filesystem, `out-of-range` for a smaller size.
 */
export async function createFromSource(
  domain: Domain,
  operation: Operation,
  draft: SourceDraft,
): Promise<Volume> {
  const { id, input, source } = draft;
  const subject = `volume '${input.name}'`;
  const { pool: sourcePool, imagePath } = findSource(domain, source);
  const pool =
    input.settings.pool === undefined ? sourcePool : domain.pools.servedNamed(input.settings.pool);
  const sourceName = `${subject}: ${source.kind} '${source.id}'`;
  return withReason(domain, { subject, disk: pool }, (domain) =>
    withSourceReason({ sourceName, sourcePool, imagePath }, async () => {
      const origin = await originOf(domain, source, { id, pool, subject });
      return createFrom(domain, operation, { draft, origin, pool, subject });
    }),
  );
}

/**
 * Restores a snapshot or clones a volume of another node, whose data is received over the network. By default the volume gets the pool
 * with the most space. Throws as `createFromSource` does, and `unavailable` if the other node is lost: then a repeated call resumes the copy.
 */
export async function createFromRemote(
  domain: Domain,
  operation: Operation,
  draft: SourceDraft & { readonly remote: RemoteSource },
): Promise<Volume> {
  const { id, input, source, remote } = draft;
  const subject = `volume '${input.name}'`;
  // From now on its callers only wait, also while others are received.
  operation.beginEffects();
  const release = domain.interruptedRestores.hold(id);
  const peer = remote.nodeId;
  const report = domain.transfers.report({
    direction: 'receive',
    ...{ source, copyName: input.name, peer },
  });
  const receive = async (): Promise<Volume> => {
    report.begins();
    const begun =
      input.settings.pool === undefined ? domain.interruptedRestores.poolOf(id) : undefined;
    const pool = begun ?? (await domain.pools.choose(input.settings.pool));
    return withReason(domain, { subject, disk: pool }, async (domain) => {
      const remoteDraft = { remote, source, volumeId: id, subject, report };
      const origin = await remoteOrigin(domain, operation, remoteDraft);
      return createFrom(domain, operation, { draft, origin, pool, subject });
    });
  };
  try {
    return await domain.transfers.receive(receive, operation.signal);
  } finally {
    report.ends();
    release();
  }
}

async function createFrom(
  domain: Domain,
  operation: Operation,
  from: { draft: SourceDraft; origin: Origin; pool: Pool; subject: string },
): Promise<Volume> {
  const { draft, pool, subject } = from;
  const { id, input } = draft;
  const origin = asRequestedKind(from.origin, input.kind);
  const completed = withSourceDefaults(input, origin);
  requireSameFormat(completed, origin, subject);
  const sizeBytes = chooseSize(domain.host.filesystems, input, origin, subject);
  requireGrowable(origin, sizeBytes, subject);
  const mountOptions = checkedMountOptions(completed.fsType, completed);
  const newVolume = { id, input: completed, sizeBytes, mountOptions };
  const record = newVolumeRecord({ ...newVolume, createdAtMs: domain.now() });
  await domain.interruptedCreates.remove(id);
  if (origin.pool !== undefined) operation.beginEffects();
  return {
    record: await makeCopy(domain, operation, { id, origin, pool, record, subject }),
    pool: pool.name,
  };
}

async function makeCopy(
  domain: Domain,
  operation: Operation,
  draft: { id: VolumeId; origin: Origin; pool: Pool; record: VolumeRecord; subject: string },
): Promise<VolumeRecord> {
  const { id, origin, pool, record, subject } = draft;
  const interrupted = await findInterruptedRestore(domain, id, { origin, pool });
  // What was received of another state of the source is of no use, and takes the room of the new copy.
  if (interrupted === undefined && origin.pool === undefined)
    await domain.interruptedRestores.discard(id);
  const { sharedBytes } = origin;
  return commitCopiedVolume(domain, operation, {
    ...{ pool, record, subject, interrupted, sharedBytes },
    build: (directory, position) =>
      buildVolume(domain, origin, { directory, record, operation, from: position }),
  });
}

function findSource(domain: Domain, { kind, id }: VolumeSource): FoundSnapshot | FoundVolume {
  return kind === 'snapshot' ? domain.pools.getSnapshot(id) : domain.pools.getVolume(id);
}

interface OriginDraft {
  readonly id: VolumeId;
  readonly pool: Pool;
  readonly subject: string;
}

async function originOf(
  domain: Domain,
  { kind, id }: VolumeSource,
  draft: OriginDraft,
): Promise<Origin> {
  return kind === 'volume'
    ? originOfVolume(domain, domain.pools.getVolume(id), draft)
    : originOfSnapshot(domain, domain.pools.getSnapshot(id), draft);
}

async function originOfVolume(
  domain: Domain,
  volume: FoundVolume,
  { pool, subject }: OriginDraft,
): Promise<Origin> {
  const { record, imagePath: path } = volume;
  const capture = await planCapture(domain, volume, { pool, freezeForCopy: false, subject });
  const { image } = capture;
  // What its users wrote into a raw block device may not be in the image yet.
  if (record.kind === 'block' && capture.flush !== undefined)
    await domain.host.loops.sync(capture.flush);
  return {
    ...record,
    subject: `volume '${record.id}'`,
    pool: volume.pool,
    image,
    ...(await filesystemFactsOf(domain.host, record, { path, ...image })),
    sharedBytes: capture.isShared ? capture.image.allocatedBytes : 0n,
    copyTo: (to, operation) =>
      captureForClone(domain, capture, { to, subject, ...copyOptions(operation) }),
  };
}

async function originOfSnapshot(
  domain: Domain,
  snapshot: FoundSnapshot,
  { id, pool, subject }: OriginDraft,
): Promise<Origin> {
  const { record, imagePath: path } = snapshot;
  snapshot.pool.requireServed();
  if (record.state === 'copying') {
    throw new VolumeError(
      'busy',
      `${subject}: snapshot '${record.id}' is still being copied; try again when it is ready to use`,
    );
  }
  const image = await requireWholeImage(domain, snapshot);
  const copySource = copySourceOf(record, image);
  return {
    ...record,
    subject: `snapshot '${record.id}'`,
    pool: snapshot.pool,
    image,
    ...(await filesystemFactsOf(domain.host, record, { path, ...image })),
    sharedBytes: 0n,
    copySource,
    copyTo: (to, operation, { doneBytes: resumeFrom }) =>
      copyImage(domain, path, {
        pools: [snapshot.pool, pool],
        copy: { to, volumeId: id, source: copySource, resumeFrom, operation },
      }),
  };
}

/** Attributes a failure of the source's image to the pool of the source, since the new volume may be in another pool. */
async function withSourceReason<T>(
  source: { readonly sourceName: string; readonly sourcePool: Pool; readonly imagePath: string },
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { sourceName, sourcePool, imagePath } = source;
    // The path may be followed by a detail in parentheses.
    const isOfSource =
      error instanceof KernelError && error.subject.replace(/ \([^()]*\)$/, '').endsWith(imagePath);
    throw isOfSource ? await toVolumeError(error, sourceName, sourcePool) : error;
  }
}

/** An interrupted copy of the same source; undefined if the blocks can be shared. */
async function findInterruptedRestore(
  domain: Domain,
  id: VolumeId,
  { origin, pool }: { origin: Origin; pool: Pool },
): Promise<InterruptedRestore | undefined> {
  const { copySource: source } = origin;
  if (source === undefined) return undefined;
  if (origin.pool !== undefined && (await canShare(domain.host.files, origin.pool, pool)))
    return undefined;
  return domain.interruptedRestores.find(id, { pool, source });
}

interface CopyOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (doneBytes: bigint, totalBytes: bigint) => void;
}

function copyOptions(operation: Operation): CopyOptions {
  return {
    signal: operation.signal,
    onProgress: operation.reportProgress,
  };
}

async function captureForClone(
  domain: Domain,
  capture: Capture,
  options: CopyOptions & { to: string; subject: string },
): Promise<void> {
  const { frozenMs } = await captureVolumes(domain, [{ capture, to: options.to }], options);
  if (frozenMs > 0) {
    domain.log.info(
      { volumeId: capture.source.record.id, frozenMs },
      'a volume was frozen for its clone',
    );
  }
}

/** Shares the blocks where the kernel allows it, otherwise copies: a snapshot never changes, so no freeze is needed. */
async function copyImage(
  domain: Domain,
  from: string,
  options: { pools: readonly [Pool, Pool]; copy: Parameters<typeof copyForVolume>[2] },
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
  await copyForVolume(domain, from, copy);
}

async function buildVolume(
  domain: Domain,
  origin: Origin,
  options: { directory: string; record: VolumeRecord; operation: Operation; from: CopyPosition },
): Promise<void> {
  const { directory, record, operation, from } = options;
  await origin.copyTo(join(directory, imageFile), operation, from);
  await makeOwnVolume(domain, origin, { directory, record });
}

/**
 * Makes the copy of an image, in `directory`, a volume of its own. The order matters: the UUID is renewed before anything else can
 * attach the image, and growth comes last, so that the tools that write the UUID work on the filesystem at its original size.
 */
export async function makeOwnVolume(
  domain: Domain,
  origin: Pick<Origin, 'subject' | 'image' | 'provisioning'>,
  options: { directory: string; record: VolumeRecord; keepsUuid?: boolean },
): Promise<void> {
  const { directory, record, keepsUuid = false } = options;
  const { files, filesystems } = domain.host;
  const image = join(directory, imageFile);
  const allocate = record.provisioning === 'thick';
  // btrfs also clones the blocks of a thick source that are allocated but unwritten.
  if (!allocate && origin.provisioning === 'thick') await files.punchUnwritten(image);
  await domain.reached('restore:taken');
  const { sectorSize, fsType, fsUuid } = record;
  const work = { sectorSize, workDir: directory };
  if (fsType !== null && fsUuid !== null && !keepsUuid) {
    await requireUndamaged(domain, image, origin, { fsType, sectorSize });
    await filesystems[fsType].renewUuid(image, { ...work, uuid: fsUuid });
    await domain.reached('restore:uuid-renewed');
  }
  if (record.sizeBytes > origin.image.sizeBytes || allocate) {
    await files.growImage(image, { sizeBytes: record.sizeBytes, allocate });
  }
  if (fsType !== null) {
    await filesystems[fsType].growUnmounted(image, work);
    // The check and the log replay may have freed blocks.
    if (allocate) await files.growImage(image, { sizeBytes: record.sizeBytes, allocate });
  }
  await domain.reached('restore:grown');
}

/** Throws for a damaged copy, before anything is written to it. */
async function requireUndamaged(
  domain: Domain,
  image: string,
  origin: Pick<Origin, 'subject' | 'image'>,
  { fsType, sectorSize }: { readonly fsType: FsType; readonly sectorSize: SectorSize },
): Promise<void> {
  const filesystem = domain.host.filesystems[fsType];
  const superblock = await filesystem.readSuperblock(image);
  if (superblock === undefined) {
    throw damagedSourceError(origin, `it has no valid ${fsType} superblock`);
  }
  const { sizeBytes } = origin.image;
  if (superblock.sizeBytes > sizeBytes) {
    throw damagedSourceError(
      origin,
      `its ${fsType} filesystem has ${superblock.sizeBytes} bytes and its image ${sizeBytes}`,
    );
  }
  if (superblock.maxSectorSize < sectorSize) {
    throw damagedSourceError(
      origin,
      `its ${fsType} filesystem was made for sectors of ${superblock.maxSectorSize} bytes, and the volume has sectors of ${sectorSize}`,
    );
  }
  if (superblock.state !== 'has-errors') return;
  const result = await filesystem.check(image);
  if (result.outcome === 'damaged') throw damagedSourceError(origin, result.detail);
}
