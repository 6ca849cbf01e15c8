import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files, ImageStatus } from '../../host/host.ts';
import type { SnapshotRecord } from '../../state/records.ts';
import { imageStatusOf } from '../attachment/attachment.ts';
import type { Domain } from '../domain.ts';
import { copiedBytes, finishCopy, sourceModifiedNs } from '../jobs/snapshot-copies.ts';
import { entryFiles } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { removeSnapshot } from './delete.ts';

/**
 * At start, for one pool: a copy whose source is as it was goes on; one whose source may have changed is removed, and a
 * repeated CreateSnapshot takes a new one. Then the members of groups whose record is missing.
 */
export async function recoverSnapshots(domain: Domain, pool: Pool): Promise<void> {
  for (const record of [...pool.snapshots.values()]) {
    if (record.state !== 'copying' || domain.copies.isRunning(record.id)) continue;
    await logFailure(domain, record.id, () => recoverCopy(domain, pool, record));
  }
  await removeIncompleteGroups(domain);
}

/** Goes on with a copy that no process works on, or removes it. */
export async function recoverCopy(
  domain: Domain,
  pool: Pool,
  record: SnapshotRecord,
): Promise<void> {
  const { files } = domain.host;
  const image = pool.imagePathOf('snapshots', record.id);
  if ((await statusIfExists(files, image)) !== undefined) {
    await finishCopy(domain, pool, record);
    return;
  }
  const source = await unchangedSource(domain, record);
  if (source === undefined) {
    await removeSnapshot(domain, pool, record.id);
    domain.log.error(
      { snapshotId: record.id, volumeId: record.sourceVolumeId },
      'removed a half-copied snapshot: its source was changed since; take it again',
    );
    return;
  }
  const part = await statusIfExists(
    files,
    pool.pathOf('snapshots', record.id, entryFiles.partialImage),
  );
  const resumeFrom = part === undefined ? 0n : await copiedBytes(files, pool, record.id);
  domain.log.info({ snapshotId: record.id, resumeFrom }, 'an interrupted copy goes on');
  domain.copies.start({ pool, record, source, resumeFrom });
}

/** undefined only where it certainly is not: one that cannot be looked at must not be taken for absent. */
async function statusIfExists(files: Files, path: string): Promise<ImageStatus | undefined> {
  try {
    return await files.imageStatus(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** The source, if nobody can have written to it since the copy began. */
async function unchangedSource(
  domain: Domain,
  record: SnapshotRecord,
): Promise<FoundVolume | undefined> {
  const source = domain.pools.findHere(record.sourceVolumeId);
  if (source === undefined) return undefined;
  const devices = await domain.host.loops.findByImage(await imageStatusOf(domain, source));
  if (devices.length > 0) return undefined;
  const modified = await sourceModifiedNs(domain.host.files, source);
  return modified === record.copy?.sourceModifiedNs ? source : undefined;
}

/**
 * Members without their group's record, which is the group's commit. The record lies in the first member's pool: as long as
 * that one is away, or not configured any more, nobody knows, and they stay.
 */
export async function removeIncompleteGroups(domain: Domain): Promise<void> {
  for (const pool of domain.pools.served) {
    for (const { id, groupId, groupPool } of [...pool.snapshots.values()]) {
      if (groupId === null || groupPool === null) continue;
      const home = domain.pools.served.find(({ marker }) => marker?.uuid === groupPool);
      // A record that cannot be used is there all the same.
      if (home === undefined || home.groups.get(groupId) || home.groups.aside.has(groupId))
        continue;
      // A group that is being made or deleted now holds the lock of its members.
      if (domain.operations.locks.holderOf(`snapshot:${id}`) !== undefined) continue;
      await logFailure(domain, id, () => removeSnapshot(domain, pool, id));
      domain.log.warn({ snapshotId: id, groupId }, 'removed a member of a half-made group');
    }
  }
}

async function logFailure(domain: Domain, id: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    domain.log.error({ id, problem: messageOf(error) }, 'a leftover could not be settled');
  }
}
