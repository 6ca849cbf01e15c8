import { join } from 'node:path';
import { VolumeError } from '../../../errors.ts';
import { hasErrno } from '../../../host/errors.ts';
import type { Files, LoopDevice } from '../../../host/host.ts';
import { isOnImage } from '../../../host/loop/status.ts';
import { exposesDevice } from '../../../host/mount/loop-mounts.ts';
import { foundName, withNodeTag } from '../../../ids.ts';
import { LaterVersionError } from '../../../state/decode.ts';
import type { KnownPools } from '../../../state/known-pools.ts';
import {
  type GroupRecord,
  groupRecord,
  type PoolMarker,
  poolMarker,
  readRecord,
  type SnapshotRecord,
  snapshotRecord,
  type VolumeRecord,
  volumeRecord,
  writeRecord,
} from '../../../state/records.ts';
import type { Domain } from '../../domain.ts';
import { isEmbedded, openEmbedded } from '../../pool/embedded.ts';
import {
  areaIn,
  entryFiles,
  imageFile,
  poolFiles,
  recordAreas,
  recordFiles,
  volumeAreas,
} from '../../pool/layout.ts';
import type { Pool } from '../../pool/pool.ts';
import { lockPool } from '../../pool/process-lock.ts';

type Retag = <Id extends string>(id: Id) => Id;

/**
 * Takes over a pool that has another node's tag, or whose directory contained another pool before. Ids end in the node tag, so
 * every record is rewritten and its directory is renamed. The marker is written last: until then, the pool is not served, and a
 * repeated call completes an interrupted one. Throws `wrong-state` if one of its images is in use or one of its records was
 * written by a later version of the driver, `conflict` if another pool already uses one of the new ids, `unavailable` if there is
 * no pool.
 */
export async function adoptPool(domain: Domain, pool: Pool, knownPools: KnownPools): Promise<void> {
  if (pool.isServed) return;
  const root = await openAdoptedRoot(domain, pool);
  const { files } = domain.host;
  const marker = await readMarker(files, root, pool.name);
  const lock = await lockPool(files, { name: pool.name, root }, 'busy');
  try {
    await detachUnused(domain, root, pool.name);
    const { nodeTag } = domain.settings;
    if (marker.nodeTag !== nodeTag) {
      const retag: Retag = (id) => withNodeTag(id, { from: marker.nodeTag, to: nodeTag });
      await requireIdsUnused(domain, pool, { root, retag });
      await requireKnownVersions(files, root);
      await retagAll(files, root, retag);
      await domain.reached('adopt:retagged');
      await writeRecord(files, join(root, poolFiles.marker), {
        schema: poolMarker,
        value: { ...marker, nodeTag },
      });
    }
    await domain.reached('adopt:marked');
    await knownPools.remember(pool.settings.path, marker.uuid);
  } finally {
    await lock.release();
  }
  domain.log.info(
    { pool: pool.name, from: marker.nodeTag, uuid: marker.uuid },
    'a pool was adopted',
  );
}

/** Returns the root of the pool. An embedded pool is mounted for this, and stays mounted. */
async function openAdoptedRoot(domain: Domain, pool: Pool): Promise<string> {
  const { settings } = pool;
  const directory = await domain.host.files.resolveDirectory(settings.path);
  if (!(await isEmbedded(domain.host.files, settings))) return directory;
  return openEmbedded(settings, { directory, mayCreate: false, deps: domain });
}

async function readMarker(files: Files, root: string, name: string): Promise<PoolMarker> {
  try {
    return await readRecord(files, poolMarker, join(root, poolFiles.marker));
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
    throw new VolumeError(
      'unavailable',
      `pool '${name}': ${root} contains no pool, so there is nothing to adopt; mount its disk, or create a new pool with 'loopcsi pool init ${name}'. If a lost pool was seen there, run 'loopcsi pool forget ${name}' first`,
      { cause: error },
    );
  }
}

/**
 * Detaches unused devices that an earlier driver left behind. Throws `wrong-state` if a device is in use, with the mounts that
 * use it.
 */
async function detachUnused(domain: Domain, root: string, name: string): Promise<void> {
  const { files, loops, mounts } = domain.host;
  const devices = await loops.list();
  const table = devices.length > 0 ? await mounts.list() : [];
  const inUse: string[] = [];
  for (const area of volumeAreas) {
    for (const id of await entriesOf(files, areaIn(root, area))) {
      const path = join(root, area, id, imageFile);
      const image = await files.imageStatus(path).catch(() => undefined);
      for (const device of devices) {
        if (!isOnImage(device, image)) continue;
        const targets = table
          .filter((mount) => exposesDevice(mount, device))
          .map(({ target }) => target);
        const isFree = targets.length === 0 && !(await loops.isInUse(device));
        if (isFree && (await loops.detach(device)) === 'detached') continue;
        inUse.push(describeUse(id, device, targets));
      }
    }
  }
  if (inUse.length === 0) return;
  throw new VolumeError(
    'wrong-state',
    `pool '${name}': ${inUse.join('; ')}; stop the processes and containers that use them, then adopt the pool again`,
  );
}

function describeUse(id: string, { path }: LoopDevice, targets: readonly string[]): string {
  if (targets.length === 0) {
    return `the image of '${id}' is attached to ${path}, which a process or another mount namespace uses ('fuser -vm ${path}' lists the processes)`;
  }
  const commands = targets.toReversed().map((target) => `umount ${target}`);
  return `'${id}' is mounted at ${targets.join(', ')} (${commands.join(' && ')})`;
}

async function requireIdsUnused(
  domain: Domain,
  pool: Pool,
  { root, retag }: { root: string; retag: Retag },
): Promise<void> {
  for (const area of ['volumes', 'snapshots', 'groups'] as const) {
    const names = (await entriesOf(domain.host.files, areaIn(root, area))).map(foundName);
    for (const id of names.map(retag)) {
      const other = domain.pools.all.find((one) => {
        const index = one.indexOf(area);
        return one !== pool && (index.get(id) !== undefined || index.aside.has(id));
      });
      if (other === undefined) continue;
      throw new VolumeError(
        'conflict',
        `pool '${pool.name}': pool '${other.name}' already has an entry with the id '${id}'; delete one of the two first`,
      );
    }
  }
}

const recordSchemas = {
  volumes: volumeRecord,
  ephemeral: volumeRecord,
  snapshots: snapshotRecord,
  groups: groupRecord,
} as const;

/** Throws LaterVersionError for a record of a later version, which this version cannot rewrite with a new id. */
async function requireKnownVersions(files: Files, root: string): Promise<void> {
  for (const area of recordAreas) {
    for (const id of await entriesOf(files, areaIn(root, area))) {
      const path = join(root, area, id, recordFiles[area]);
      await readRecord(files, recordSchemas[area], path).catch((error: unknown) => {
        if (error instanceof LaterVersionError) throw error;
      });
    }
  }
}

async function retagAll(files: Files, root: string, retag: Retag): Promise<void> {
  for (const area of volumeAreas) {
    await retagArea(files, areaIn(root, area), retag, async (directory) => {
      const path = join(directory, recordFiles[area]);
      const value = retagVolume(await readRecord(files, volumeRecord, path), retag);
      await writeRecord(files, path, { schema: volumeRecord, value });
      // The mounts of the other node do not exist here.
      await files.removeFile(join(directory, entryFiles.nodeState));
    });
  }
  await retagArea(files, areaIn(root, 'snapshots'), retag, async (directory) => {
    const path = join(directory, recordFiles.snapshots);
    const value = retagSnapshot(await readRecord(files, snapshotRecord, path), retag);
    await writeRecord(files, path, { schema: snapshotRecord, value });
  });
  await retagArea(files, areaIn(root, 'groups'), retag, async (directory) => {
    const path = join(directory, recordFiles.groups);
    const value = retagGroup(await readRecord(files, groupRecord, path), retag);
    await writeRecord(files, path, { schema: groupRecord, value });
  });
}

/** Rewrites each record, then renames its directory. Both steps can be repeated after an interruption. */
async function retagArea(
  files: Files,
  area: string,
  retag: Retag,
  rewrite: (directory: string) => Promise<void>,
): Promise<void> {
  for (const id of await entriesOf(files, area)) {
    if (retag(id) === id) continue;
    await rewrite(join(area, id)).catch((error: unknown) => {
      // A record that cannot be decoded is never overwritten; its entry is reported as unreadable under its new id.
      if (!(error instanceof VolumeError)) throw error;
    });
    await files.renameNoReplace(join(area, id), join(area, retag(id)));
  }
  await files.sync(area).catch((error: unknown) => {
    if (!hasErrno(error, 'ENOENT')) throw error;
  });
}

function retagVolume(record: VolumeRecord, retag: Retag): VolumeRecord {
  const { source } = record;
  return {
    ...record,
    id: retag(record.id),
    source: source === null ? null : { ...source, id: retag(source.id) },
  };
}

function retagSnapshot(record: SnapshotRecord, retag: Retag): SnapshotRecord {
  return {
    ...record,
    id: retag(record.id),
    sourceVolumeId: retag(record.sourceVolumeId),
    ...retagGroupOf(record, retag),
  };
}

/**
 * The record of a group that keeps the tag of a third node does not know the new id of this member, so the member becomes a snapshot of its
 * own, which can be deleted.
 */
function retagGroupOf(
  { groupId, groupPool, prepared }: SnapshotRecord,
  retag: Retag,
): Pick<SnapshotRecord, 'groupId' | 'groupPool' | 'prepared'> {
  if (groupId === null) return { groupId, groupPool };
  const id = retag(groupId);
  const isElsewhere = id === groupId && groupPool === null;
  if (isElsewhere) return { groupId: null, groupPool: null, prepared: null };
  return { groupId: id, groupPool, ...(prepared === undefined ? {} : { prepared }) };
}

function retagGroup(record: GroupRecord, retag: Retag): GroupRecord {
  return {
    ...record,
    id: retag(record.id),
    sourceVolumeIds: record.sourceVolumeIds.map((id) => retag(id)),
    snapshotIds: record.snapshotIds.map((id) => retag(id)),
  };
}

async function entriesOf(files: Files, directory: string): Promise<readonly string[]> {
  return files.list(directory).catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  });
}
