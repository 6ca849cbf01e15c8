import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { KernelError } from '../../host/errors.ts';
import type { IoLimits } from '../../host/host.ts';
import { type VolumeId, volumeIdFor } from '../../ids.ts';
import { type VolumeRecord, volumeRecord } from '../../state/records.ts';
import { formatExactBytes } from '../../units.ts';
import { reloadSetAside } from '../attachment/duplicates.ts';
import { requireLimitsApplicable } from '../attachment/io-limits.ts';
import { chooseCapacity, isInRange, minBytesOf } from '../capacity.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import { inLane } from '../engine/lanes.ts';
import { volumeLock } from '../engine/locks.ts';
import type { Call, Operation } from '../engine/operations.ts';
import type { CreateVolumeInput, Volume, VolumeSource } from '../model.ts';
import { formatLimit, limitNames } from '../parameters/io-limits.ts';
import { checkedMountOptions } from '../parameters/mount-options.ts';
import { valuesAtCreation } from '../parameters/present-values.ts';
import type { ParameterName } from '../parameters/storage-class.ts';
import { commitNew } from '../pool/commit.ts';
import { imageFile, missingFile } from '../pool/layout.ts';
import { defaultSectorSize, newVolumeRecord } from '../pool/new-volume-record.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { makePoolQuery } from '../pool/pool-query.ts';
import { createFromRemote, createFromSource } from '../snapshot/restore.ts';
import { requireSourceHere } from '../snapshot/source-node.ts';

/**
 * CSI spec, CreateVolume: returns the volume of that name, or creates it. mkfs runs only here, on an image in `tmp/`. Throws
 * `conflict` if a different volume has the name, `no-space` (also for a source on another node), `out-of-range`, `not-found`
 * (source), `busy`.
 */
export async function createVolume(
  domain: Domain,
  call: Call,
  input: CreateVolumeInput,
): Promise<Volume> {
  const id = volumeIdFor(input.name, domain.settings.nodeTag);
  // A retry may mention other nodes, and another way to its source, so they are not part of the request with which it is compared.
  const { mentionedNodeIds = [], remote, ...request } = input;
  const source = input.source === null ? [] : [`${input.source.kind}:${input.source.id}`];
  return domain.operations.run(
    domain,
    call,
    {
      name: 'CreateVolume',
      lane: { kind: 'volume', id },
      exclusive: [volumeLock(id)],
      shared: source,
      request,
    },
    async (domain, operation) => {
      await reloadSetAside(domain, { area: 'volumes', id });
      const existing = domain.pools.findVolume(id);
      if (existing !== undefined) {
        existing.pool.requireServed();
        requireSameVolume(existing, input);
        await existing.pool.sync();
        return { record: existing.record, pool: existing.pool.name };
      }
      // `no-space` makes Kubernetes choose another node; `wrong-state` would keep the claim on this one.
      await requireLimitsApplicable(
        domain,
        `volume '${input.name}'`,
        input.settings.limits,
        'no-space',
      );
      if (input.source === null) return createEmpty(domain, operation, { id, input });
      // A source on another node is refused first: pools that are not served here do not matter for it.
      const { nodeTag } = domain.settings;
      const subject = `volume '${input.name}'`;
      const { source } = input;
      if (remote !== undefined && !hasSource(domain, source)) {
        if (input.settings.pool === undefined) await requireNameFree(domain, input.name);
        return createFromRemote(domain, operation, { id, input, source, remote });
      }
      requireSourceHere(source, { nodeTag, mentionedNodeIds, subject });
      return createFromSource(domain, operation, { id, input, source });
    },
  );
}

function hasSource({ pools }: Domain, { kind, id }: VolumeSource): boolean {
  const found = kind === 'snapshot' ? pools.findSnapshotRecord(id) : pools.findRecord(id);
  return found !== undefined;
}

async function createEmpty(
  domain: Domain,
  operation: Operation,
  { id, input }: { id: VolumeId; input: CreateVolumeInput },
): Promise<Volume> {
  // The mount options are recorded for the life of the volume, so invalid ones are refused now and not at the first mount.
  const mountOptions = checkedMountOptions(input.fsType, input);
  // If the request does not specify a pool, a pool that is not served may already have a volume of that name.
  if (input.settings.pool === undefined) await requireNameFree(domain, input.name);
  const pool = await domain.pools.choose(input.settings.pool);
  const sizeBytes = chooseCapacity(input.range, {
    minBytes: minBytesOf(domain.host.filesystems, input.fsType),
    defaultBytes: domain.settings.defaultSizeBytes,
    subject: `volume '${input.name}'`,
  });
  const record = newVolumeRecord({ id, input, sizeBytes, mountOptions, createdAtMs: domain.now() });
  await domain.interruptedCreates.remove(id);
  operation.beginEffects();
  return { record: await createEntry(domain, pool, record), pool: pool.name };
}

/**
 * Checks that no pool can have a volume of that name, because names are unique over all pools. Throws `unavailable` while a pool
 * is not served or does not answer; the message says how to create the volume anyway.
 */
export async function requireNameFree(domain: Domain, name: string): Promise<void> {
  const query = makePoolQuery();
  const served: string[] = [];
  let refusal: VolumeError | undefined;
  await Promise.all(
    domain.pools.all.map(async (pool) => {
      try {
        pool.requireServed();
        await query(pool, async () => {
          await pool.space.capacity();
          await waitUntilWritable(domain, pool);
        });
        served.push(pool.name);
      } catch (error) {
        if (!(error instanceof VolumeError)) throw error;
        refusal ??= error;
      }
    }),
  );
  if (refusal === undefined) return;
  if (served.length === 0) throw refusal;
  throw new VolumeError(
    refusal.reason,
    `${refusal.message}; until then, it may have a volume '${name}', so specify another pool for a new one (${served.join(', ')}): parameter pool, or --pool NAME of 'loopcsi volume create'`,
    { cause: refusal },
  );
}

/** Resolves when the pool's filesystem accepts changes: unlink(2) of a missing file changes nothing, but waits on a frozen filesystem. */
async function waitUntilWritable(domain: Domain, pool: Pool): Promise<void> {
  const { host } = inLane(domain, { kind: 'check', id: pool.name, pool: pool.name });
  const missing = join(pool.directoryOf('tmp'), missingFile);
  try {
    await host.files.removeFile(missing);
  } catch (error) {
    // An error, for example EROFS, is also an answer; it is reported if the volume is created in this pool.
    if (!(error instanceof KernelError)) throw error;
  }
}

/** Reserves the space, creates the image and its filesystem in `tmp/`, and commits the entry. */
export async function createEntry(
  domain: Domain,
  pool: Pool,
  record: VolumeRecord,
): Promise<VolumeRecord> {
  const subject = `volume '${record.name}'`;
  const allocate = record.provisioning === 'thick';
  const reservation = await withReason(domain, { subject, disk: pool }, (_domain) =>
    pool.space.reserve(record.sizeBytes, subject, { allocate }),
  );
  const area = record.ephemeralTarget === null ? 'volumes' : 'ephemeral';
  try {
    return await withReason(domain, { subject, disk: pool }, (domain) =>
      commitNew(domain, {
        pool,
        area,
        id: record.id,
        schema: volumeRecord,
        images: [imageFile],
        build: async (directory) => {
          await buildImage(domain, join(directory, imageFile), record);
          return record;
        },
      }),
    );
  } finally {
    reservation.release();
  }
}

/** Creates the image of an empty volume. */
export async function buildImage(
  domain: Domain,
  image: string,
  record: VolumeRecord,
): Promise<void> {
  const { files, filesystems } = domain.host;
  const allocate = record.provisioning === 'thick';
  await files.createImage(image, { sizeBytes: record.sizeBytes, allocate });
  if (record.fsType === null || record.fsUuid === null) return;
  await filesystems[record.fsType].make(image, {
    sectorSize: record.sectorSize,
    thick: allocate,
    uuid: record.fsUuid,
    options: record.mkfsOptions,
  });
  // mkfs discards blocks, so all blocks of a thick volume are allocated again (tests check st_blocks).
  if (allocate) await files.growImage(image, { sizeBytes: record.sizeBytes, allocate });
  await domain.reached('create:filesystem-made');
}

/** Throws `conflict` if the existing volume differs from the request (CSI spec, "CreateVolume Errors"). */
function requireSameVolume(existing: FoundVolume, input: CreateVolumeInput): void {
  const { record } = existing;
  const differences: string[] = [];
  const shown = (value: unknown): string => (value === '' ? 'none' : String(value));
  const compare = (property: string, actual: unknown, requested: unknown): void => {
    if (actual !== requested) {
      differences.push(`${property} is ${shown(actual)}, not ${shown(requested)}`);
    }
  };
  compare('name', record.name, input.name);
  // A block volume that was staged as a filesystem since is still the one of its request.
  const isAsCreated = input.kind === record.createdKind;
  if (!isAsCreated) compare('kind', record.kind, input.kind);
  // If the request did not specify a filesystem, the volume got that of its source, or the driver's default at that time.
  if (!isAsCreated && (input.isFsTypeUnset !== true || input.kind === 'block')) {
    compare('filesystem', record.fsType, input.fsType);
  }
  for (const [name, [actual, requested]] of Object.entries(comparedParameters(existing, input))) {
    compare(name, actual, requested);
  }
  compare('source', sourceText(record.source), sourceText(input.source));
  if (!isInRange(record.sizeBytes, input.range)) {
    const { requiredBytes, limitBytes } = input.range;
    differences.push(
      `size is ${formatExactBytes(record.sizeBytes)}, not ${formatExactBytes(requiredBytes)}${limitBytes > 0n ? ` to ${formatExactBytes(limitBytes)}` : ' or more'}`,
    );
  }
  if (differences.length === 0) return;
  throw new VolumeError(
    'conflict',
    `volume '${input.name}' already exists with other arguments: ${differences.join('; ')}; delete it first, or choose another name`,
  );
}

/** Returns the actual and the requested value of each parameter. */
export function comparedParameters(
  { record, pool }: FoundVolume,
  { settings, source }: CreateVolumeInput,
): Readonly<Record<ParameterName, readonly [actual: unknown, requested: unknown]>> {
  const created = valuesAtCreation(record);
  // A volume that was modified is still the one of its first request; a request with its present values fits it, too.
  const actual = <T>(present: T, first: T, requested: T): T =>
    requested === present ? present : first;
  const limitPairs = limitNames.map((name) => {
    const requested = settings.limits[name];
    const found = actual(record.limits[name], created.limits[name], requested);
    return [name, [formatLimit(found), formatLimit(requested)]] as const;
  });
  // A copy without a requested sector size got that of its source.
  const defaultOfRequest = source === null ? defaultSectorSize : record.sectorSize;
  return {
    // A request that does not specify a pool accepts any pool.
    pool: [pool.name, settings.pool ?? pool.name],
    provisioning: [record.provisioning, settings.provisioning],
    sectorSize: [record.sectorSize, settings.sectorSize ?? defaultOfRequest],
    trim: [actual(record.trim, created.trim, settings.trim), settings.trim],
    directIO: [record.directIo, settings.directIo],
    mkfsOptions: [record.mkfsOptions.join(' '), settings.mkfsOptions.join(' ')],
    ...(Object.fromEntries(limitPairs) as Record<
      keyof IoLimits,
      readonly [actual: string, requested: string]
    >),
  };
}

function sourceText(source: CreateVolumeInput['source']): string {
  return source === null ? 'none' : `${source.kind} ${source.id}`;
}
