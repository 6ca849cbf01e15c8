import { hasErrno } from '../../host/errors.ts';
import type { Files, ImageStatus } from '../../host/host.ts';
import type { SnapshotRecord } from '../../state/records.ts';
import { imageStatusOf } from '../attachment/attachment.ts';
import type { Domain } from '../domain.ts';
import { logFailure } from '../engine/failures.ts';
import { copiedBytes, finishCopy, sourceModifiedNs } from '../jobs/snapshot-copies.ts';
import { entryFiles } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { removeSnapshot } from './delete.ts';

/**
 * Recovers the snapshots of one pool at its start. An interrupted copy is resumed if its source is unchanged; otherwise the
 * snapshot is removed, and a repeated CreateSnapshot takes a new one. Afterwards, members of groups without a record are removed.
 */
export async function recoverSnapshots(domain: Domain, pool: Pool): Promise<void> {
  for (const record of [...pool.snapshots.values()]) {
    if (record.state !== 'copying' || domain.snapshotCopies.isRunning(record.id)) continue;
    await logFailure(domain.log, record.id, () => recoverCopy(domain, pool, record));
  }
  await removeIncompleteGroups(domain);
}

/** Finishes or resumes an interrupted copy, or removes the snapshot if its source may have changed. */
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
      'an incomplete snapshot was removed because its source may have changed; take it again',
    );
    return;
  }
  const partial = await statusIfExists(
    files,
    pool.pathOf('snapshots', record.id, entryFiles.partialImage),
  );
  const resumeFrom = partial === undefined ? 0n : await copiedBytes(files, pool, record.id);
  domain.log.info({ snapshotId: record.id, resumeFrom }, 'an interrupted copy was resumed');
  domain.snapshotCopies.start({ pool, record, source, resumeFrom });
}

/** Returns undefined only for ENOENT: a file that cannot be read must not be treated as missing. */
async function statusIfExists(files: Files, path: string): Promise<ImageStatus | undefined> {
  try {
    return await files.imageStatus(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Returns the source, or undefined if it may have been written to since the copy began. */
async function unchangedSource(
  domain: Domain,
  record: SnapshotRecord,
): Promise<FoundVolume | undefined> {
  const source = domain.pools.findHere(record.sourceVolumeId);
  if (source === undefined) return undefined;
  const devices = await domain.host.loops.findByImage(
    await imageStatusOf(domain.host.files, source),
  );
  if (devices.length > 0) return undefined;
  const modified = await sourceModifiedNs(domain.host.files, source);
  return modified === record.copy?.sourceModifiedNs ? source : undefined;
}

/**
 * Removes members whose group has no record, since that record is the group's commit. The record is in the pool of the first member:
 * while that pool is not served or not configured, the members stay.
 */
async function removeIncompleteGroups(domain: Domain): Promise<void> {
  for (const pool of domain.pools.served) {
    for (const { id, groupId, groupPool } of [...pool.snapshots.values()]) {
      if (groupId === null || groupPool === null) continue;
      const groups = domain.pools.served.find(({ marker }) => marker?.uuid === groupPool)?.groups;
      // A group whose record is set aside exists too.
      if (groups === undefined || groups.get(groupId) || groups.aside.has(groupId)) continue;
      // A call that takes or deletes the group has locked its members.
      if (domain.operations.locks.lockedBy(`snapshot:${id}`) !== undefined) continue;
      await logFailure(domain.log, id, async () => {
        await removeSnapshot(domain, pool, id);
        domain.log.warn(
          { snapshotId: id, groupId },
          'a member of an incomplete group snapshot was removed',
        );
      });
    }
  }
}
