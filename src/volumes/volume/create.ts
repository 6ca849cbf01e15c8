import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { KernelError } from '../../host/errors.ts';
import { type VolumeRecord, volumeRecord } from '../../state/records.ts';
import { formatBytes } from '../../units.ts';
import { reloadSetAside } from '../attachment/duplicates.ts';
import { defaultSectorSize, minBytesOf, newRecord } from '../attachment/new-volume-record.ts';
import { chooseCapacity, isInRange } from '../capacity.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import type { Call } from '../engine/operations.ts';
import { volumeIdFor } from '../ids.ts';
import type { CreateVolumeInput, Volume } from '../model.ts';
import { parseMountOptions } from '../parameters/mount-options.ts';
import { askingPools } from '../pool/ask-pools.ts';
import { commitNew } from '../pool/commit.ts';
import { imageFile } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { createFromSource } from '../snapshot/restore.ts';
import { requireSourceHere } from '../snapshot/source-node.ts';

/**
 * CSI spec, CreateVolume: finds the volume of that name or makes it. The filesystem is made here, in `tmp/`, once and never
 * again. Throws `conflict` when the name stands for something else, `no-space` (also for a source on another node),
 * `out-of-range`, `not-found` (source), `busy`.
 */
export async function createVolume(
  domain: Domain,
  call: Call,
  input: CreateVolumeInput,
): Promise<Volume> {
  const { nodeTag } = domain.settings;
  const id = volumeIdFor(input.name, nodeTag);
  // A repeated call may mention other nodes: it is the same request all the same.
  const { mentionedNodeIds = [], ...request } = input;
  const source = input.source === null ? [] : [`${input.source.kind}:${input.source.id}`];
  return domain.operations.run(
    {
      name: 'CreateVolume',
      lane: { kind: 'volume', id },
      exclusive: [`volume:${id}`],
      shared: source,
      request,
    },
    call,
    async (operation) => {
      await reloadSetAside(domain, { area: 'volumes', id });
      const existing = domain.pools.findVolume(id);
      if (existing !== undefined) {
        existing.pool.requireServed();
        requireSameVolume(existing, input);
        await existing.pool.sync();
        return { record: existing.record, pool: existing.pool.name };
      }
      requireMountOptions(input);
      // Before the pools are asked: whether they are all served here says nothing about a source that is elsewhere.
      const what = `volume '${input.name}'`;
      requireSourceHere(input.source, { nodeTag, mentionedNodeIds, what });
      // A source or the request says which pool it is; else one that is not served may hold the name already.
      if (input.source === null && input.settings.pool === undefined) {
        await requireNameFree(domain, input.name);
      }
      await domain.interruptedCreates.settle(id);
      if (input.source !== null) {
        return createFromSource(domain, operation, { id, input, source: input.source });
      }
      const pool = await domain.pools.choose(input.settings.pool);
      const sizeBytes = chooseCapacity(input.range, {
        minBytes: minBytesOf(domain, input.fsType),
        defaultBytes: domain.settings.defaultSizeBytes,
        what,
      });
      const record = newRecord(domain, { id, input, sizeBytes });
      operation.beginEffects();
      const made = await makeVolume(domain, pool, record);
      return { record: made, pool: pool.name };
    },
  );
}

/** Names are unique over all pools. Throws `unavailable` while one of them cannot be asked, and says how to go on without it. */
async function requireNameFree(domain: Domain, name: string): Promise<void> {
  const ask = askingPools();
  const served: string[] = [];
  let refusal: VolumeError | undefined;
  await Promise.all(
    domain.pools.all.map(async (pool) => {
      try {
        pool.requireServed();
        await ask(pool, async () => {
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
    `${refusal.message}; until then it may hold a volume '${name}', so say in which of the others a new one is made (${served.join(', ')}): parameter pool, or --pool NAME of 'loopcsi volume create'`,
    { cause: refusal },
  );
}

/** Ends when the pool's filesystem takes changes: removing what is not there waits for one that is frozen, and changes nothing. */
async function waitUntilWritable({ host, inLane }: Domain, pool: Pool): Promise<void> {
  const nothing = pool.pathOf('tmp', '.nothing');
  try {
    await inLane({ kind: 'check', id: pool.name, pool: pool.name }, () =>
      host.files.removeFile(nothing),
    );
  } catch (error) {
    // Read-only, for example: that is for the call to find out.
    if (!(error instanceof KernelError)) throw error;
  }
}

/** What the volume will be mounted with for life is refused now, not at the first mount. Throws `invalid` naming the word. */
function requireMountOptions({ fsType, mountOptions }: CreateVolumeInput): void {
  if (fsType !== null) parseMountOptions(fsType, mountOptions ?? []);
}

/** Reserves the room, builds image and filesystem in `tmp/`, commits. */
export async function makeVolume(
  domain: Domain,
  pool: Pool,
  record: VolumeRecord,
): Promise<VolumeRecord> {
  const what = `volume '${record.name}'`;
  const allocate = record.provisioning === 'thick';
  const reservation = await withReason(what, pool, () =>
    pool.space.reserve(record.sizeBytes, what, { allocate }),
  );
  const area = record.ephemeralTarget === null ? 'volumes' : 'ephemeral';
  try {
    return await withReason(what, pool, () =>
      commitNew(domain, {
        pool,
        area,
        id: record.id,
        schema: volumeRecord,
        images: [imageFile],
        placed: (placed) => {
          pool.indexOf(area).put(placed);
        },
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

async function buildImage(domain: Domain, image: string, record: VolumeRecord): Promise<void> {
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
  // What mkfs discarded is allocated again: thick means every block, proven by tests on st_blocks.
  if (allocate) await files.growImage(image, { sizeBytes: record.sizeBytes, allocate });
  await domain.reached('create:filesystem-made');
}

/** Throws `conflict` when the volume of that name is not what the request asks for (CSI spec, "CreateVolume Errors"). */
export function requireSameVolume(existing: FoundVolume, input: CreateVolumeInput): void {
  const { record, pool } = existing;
  const differences: string[] = [];
  const compare = (what: string, has: unknown, asked: unknown): void => {
    if (has !== asked) differences.push(`${what} is ${String(has)}, asked ${String(asked)}`);
  };
  compare('name', record.name, input.name);
  compare('kind', record.kind, input.kind);
  // Left open, it has its source's, or the default of the day it was made.
  if (input.fsTypeIsOpen !== true || input.kind === 'block') {
    compare('filesystem', record.fsType, input.fsType);
  }
  if (input.settings.pool !== undefined) compare('pool', pool.name, input.settings.pool);
  compare('provisioning', record.provisioning, input.settings.provisioning);
  // Left open, a copy has its source's.
  const { sectorSize = input.source === null ? defaultSectorSize : record.sectorSize } =
    input.settings;
  compare('sectorSize', record.sectorSize, sectorSize);
  compare('trim', record.trim, input.settings.trim);
  compare('directIO', record.directIo, input.settings.directIo);
  compare('mkfsOptions', record.mkfsOptions.join(' '), input.settings.mkfsOptions.join(' '));
  compare('source', sourceText(record.source), sourceText(input.source));
  if (!isInRange(record.sizeBytes, input.range)) {
    const { requiredBytes, limitBytes } = input.range;
    differences.push(
      `size is ${record.sizeBytes} (${formatBytes(record.sizeBytes)}), asked ${requiredBytes}${limitBytes > 0n ? ` to ${limitBytes}` : ' or more'}`,
    );
  }
  if (differences.length === 0) return;
  throw new VolumeError(
    'conflict',
    `volume '${input.name}' exists but is another one: ${differences.join('; ')}; delete it first, or choose another name`,
  );
}

function sourceText(source: CreateVolumeInput['source']): string {
  return source === null ? 'none' : `${source.kind} ${source.id}`;
}
