/** Trims a volume at the request of an operator. */
import { VolumeError } from '../../errors.ts';
import { withPrivateMount } from '../../host/filesystem/private-mount.ts';
import type { FsType } from '../../host/host.ts';
import { attachmentOf, filesystemMountOf } from '../attachment/attachment.ts';
import {
  noSuperblockError,
  recoverImage,
  requireNotTruncated,
} from '../attachment/prepare-image.ts';
import { isTemporaryMount } from '../attachment/temporary-mounts.ts';
import { changeVolume } from '../change-volume.ts';
import type { Domain } from '../domain.ts';
import { inLane, onDiskOf } from '../engine/lanes.ts';
import type { Call } from '../engine/operations.ts';
import type { MountedThinVolume } from '../jobs/mounted-thin-volumes.ts';
import { type TrimmedBytes, trimRanges } from '../jobs/trim-ranges.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { findVolume } from './inspect.ts';

/** Limits how long the private mount keeps other calls away from an unused volume, in milliseconds. */
const privateTrimLimitMs = 60_000;

export interface TrimReport extends TrimmedBytes {
  readonly isInterrupted: boolean;
  readonly isMountedPrivately: boolean;
}

/**
 * Returns the blocks that the filesystem of a thin volume has freed to the pool. Throws `wrong-state` for a volume that cannot be
 * trimmed, with the reason and what to do, `not-found`, and `busy` while another call works on an unused volume.
 */
export async function trimVolume(
  domain: Domain,
  call: Call,
  idOrName: string,
): Promise<TrimReport> {
  const volume = findVolume(domain, idOrName);
  const { record, pool } = volume;
  pool.requireServed();
  requireTrimmable(volume);
  const trimDeps = inLane(domain, { kind: 'inspect', id: record.id, pool: pool.name });
  const mounted = await findMount(trimDeps, volume);
  if (mounted === undefined) return trimUnused(domain, call, volume);
  const { result, error, ...bytes } = await domain.trims.trim(
    pool,
    mounted,
    'command',
    call.signal,
  );
  if (result === 'failed') throw error;
  if (result === 'done' && record.trim === 'periodic') {
    await domain.trimClock.record(trimDeps, pool, volume);
  }
  return { ...bytes, isInterrupted: result === 'interrupted', isMountedPrivately: false };
}

function requireTrimmable({ record, pool }: FoundVolume): void {
  const { name, provisioning, kind } = record;
  const refuse = (why: string): never => {
    throw new VolumeError('wrong-state', `volume '${name}' cannot be trimmed: ${why}`);
  };
  if (provisioning === 'thick') {
    refuse(
      'it is thick, so all its blocks stay allocated; to return space, copy its data to a thin volume',
    );
  }
  if (kind === 'block') {
    refuse(
      "it is a raw block volume, and only its user knows which blocks are free; discard them there, with fstrim(8) on the user's filesystem or with blkdiscard(8)",
    );
  }
  if (pool.abilities?.discard === false) {
    refuse(
      `the filesystem of pool '${pool.name}' cannot punch holes; put the pool on ext4, XFS or btrfs`,
    );
  }
}

/** Returns the volume with one of its mounts; undefined if it is not attached. Throws `wrong-state` if it is only in use elsewhere. */
async function findMount(
  domain: Domain,
  volume: FoundVolume,
): Promise<MountedThinVolume | undefined> {
  const { record, area, imagePath } = volume;
  const attachment = await attachmentOf(domain, volume);
  if (attachment.devices.length === 0) return undefined;
  const mount = filesystemMountOf(attachment);
  const device = attachment.readWrite;
  if (mount !== undefined && device !== undefined && !isTemporaryMount(volume.pool, mount.target)) {
    return { record, area, imagePath, device, target: mount.target };
  }
  const paths = attachment.devices.map(({ path }) => path).join(', ');
  throw new VolumeError(
    'wrong-state',
    `volume '${record.name}' is attached to ${paths} but not mounted in the mount namespace of the driver; ` +
      'run fstrim(8) where it is mounted, or mount it with this driver first',
  );
}

/**
 * Trims a volume that is not attached in a private mount below `tmp/` of its pool, which a start removes if the driver is killed.
 * Only a filesystem that needs no repair is mounted. Waits until no other trim of the pool runs. Throws `cancelled` if the caller gives up.
 */
async function trimUnused(domain: Domain, call: Call, found: FoundVolume): Promise<TrimReport> {
  const { record, area, pool } = found;
  if (area === 'ephemeral') {
    throw new VolumeError('wrong-state', `inline volume '${record.name}' is not mounted`);
  }
  const plan = { name: 'TrimVolume', volumeId: record.id, request: {} };
  // The turn comes first: a volume that waits for it is not locked.
  return domain.trims.inTurn(pool, call.signal, (signal) =>
    changeVolume(domain, call, plan, async (scope, volume, operation) => {
      const deps = onDiskOf(scope, volume.pool);
      await requireMountable(deps, volume);
      operation.beginEffects();
      return trimPrivately(deps, volume, AbortSignal.any([operation.signal, signal]));
    }),
  );
}

/** Throws unless the image is detached and its filesystem can be mounted without a repair. */
async function requireMountable(deps: Domain, volume: FoundVolume): Promise<void> {
  const { record, imagePath } = volume;
  const { image, devices } = await attachmentOf(deps, volume);
  if (devices.length > 0) {
    throw new VolumeError('busy', `volume '${record.name}' has just been attached; try again`);
  }
  await recoverImage(deps, volume, devices);
  if (image !== undefined) await requireNotTruncated(deps, volume, image);
  const fsType = fsTypeOf(volume);
  const superblock = await deps.host.filesystems[fsType].readSuperblock(imagePath);
  if (superblock === undefined) throw noSuperblockError(volume, fsType);
  if (superblock.state === 'has-errors') {
    throw new VolumeError(
      'wrong-state',
      `volume '${record.name}' cannot be trimmed: its filesystem has recorded errors; mount it first, which checks the filesystem`,
    );
  }
}

async function trimPrivately(
  deps: Domain,
  volume: FoundVolume,
  signal: AbortSignal,
): Promise<TrimReport> {
  const { record, pool, imagePath } = volume;
  const { host } = deps;
  const fsType = fsTypeOf(volume);
  const bytes = { discardedBytes: 0n, allocatedBeforeBytes: 0n, allocatedAfterBytes: 0n };
  const startedAtMs = performance.now();
  const elapsedMs = (): number => Math.round(performance.now() - startedAtMs);
  const stop = AbortSignal.any([signal, AbortSignal.timeout(privateTrimLimitMs)]);
  const control = {
    isStopped: (): boolean => stop.aborted,
    // A pause would keep the volume locked, and its time is limited anyway.
    pace: () => Promise.resolve(),
  };
  const mount = {
    fsType,
    mountOptions: host.filesystems[fsType].mountOptions,
    sectorSize: record.sectorSize,
    workDir: pool.directoryOf('tmp'),
  };
  const results: ('done' | 'interrupted')[] = [];
  const { allocatedBytes: allocatedBeforeBytes } = await host.files.imageStatus(imagePath);
  await withPrivateMount(host.lane, host, imagePath, mount, async (target, device) => {
    results.push(await trimRanges(host, { target, device, imagePath }, bytes, control));
  });
  const result = results[0] ?? 'interrupted';
  // The mount and the unmount wrote to the image, too.
  const { allocatedBytes: allocatedAfterBytes } = await host.files.imageStatus(imagePath);
  const trimmed = { ...bytes, allocatedBeforeBytes, allocatedAfterBytes };
  const { name } = pool;
  const about = { pool: name, volumeId: record.id, durationMs: elapsedMs() };
  deps.trims.report(pool, { ...about, cause: 'command', result, ...trimmed });
  if (result === 'done' && record.trim === 'periodic') {
    await deps.trimClock.record(deps, pool, volume);
  }
  return { ...trimmed, isInterrupted: result === 'interrupted', isMountedPrivately: true };
}

/** The type of a filesystem volume; block volumes were refused. */
function fsTypeOf({ record }: FoundVolume): FsType {
  if (record.fsType === null) throw new Error(`block volume '${record.id}' has no filesystem`);
  return record.fsType;
}
