import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno, isStorageFailure } from '../../host/errors.ts';
import { encodeJson } from '../../state/decode.ts';
import { type NodeRecord, nodeRecord, readRecord, writeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { entryFiles } from '../pool/layout.ts';
import type { FoundVolume } from '../pool/pool.ts';

const nothing: NodeRecord = {
  schemaVersion: 1,
  staged: null,
  published: [],
  dockerMountIds: [],
};

/**
 * The arguments of the stage and publish calls of one volume, which the kernel does not keep. An entry says what was asked;
 * whether it still holds is asked from mountinfo by the caller. Read from the disk once: nobody else writes in a pool. Torn
 * notes are none; a read that fails is a failure of the call.
 */
export async function readNodeState(domain: Domain, volume: FoundVolume): Promise<NodeRecord> {
  const { pool, record } = volume;
  const known = pool.nodeStates.get(record.id);
  if (known !== undefined) return known;
  const nodeState = await readFromDisk(domain, volume);
  pool.nodeStates.set(record.id, nodeState);
  return nodeState;
}

/**
 * The same for unpublish and unstage, since pods must be able to end: undefined if the disk cannot read the notes. The
 * callers then use the kernel's mount table alone, and do not overwrite notes that may be intact.
 */
export async function readNodeStateIfReadable(
  domain: Domain,
  volume: FoundVolume,
): Promise<NodeRecord | undefined> {
  try {
    return await readNodeState(domain, volume);
  } catch (error) {
    if (!isStorageFailure(error)) throw error;
    domain.log.warn(
      { volumeId: volume.record.id, problem: messageOf(error) },
      'the notes about mounts cannot be read from the disk; the mount table of the kernel is used instead',
    );
    return undefined;
  }
}

async function readFromDisk(domain: Domain, volume: FoundVolume): Promise<NodeRecord> {
  try {
    return await readRecord(domain.host.files, nodeRecord, nodeStatePath(volume));
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return nothing;
    // What could not be read now may be whole: taken for none it would be overwritten.
    if (!(error instanceof VolumeError)) throw error;
    domain.log.warn(
      { volumeId: volume.record.id, problem: messageOf(error) },
      'notes about mounts cannot be read; the kernel is asked instead',
    );
    return nothing;
  }
}

/**
 * Replaces the notes; survives SIGKILL, and need not survive more: a power cut ends the mounts too. A full disk must not keep
 * pods from starting and ending: there the old text is overwritten, which needs no block, and where that cannot be either the
 * kernel is asked instead. `strict`: what is noted is known from nowhere else, so a failure is one of the call.
 */
export async function writeNodeState(
  domain: Domain,
  volume: FoundVolume,
  nodeState: NodeRecord,
  { strict = false }: { strict?: boolean } = {},
): Promise<void> {
  const { pool, record } = volume;
  const path = nodeStatePath(volume);
  const { files } = domain.host;
  // What a failed write leaves on the disk is read again.
  pool.nodeStates.delete(record.id);
  try {
    if (isEmpty(nodeState)) await files.removeFile(path);
    else await writeRecord(files, path, { schema: nodeRecord, value: nodeState, durable: false });
  } catch (error) {
    if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
    // Torn by a crash it cannot be read, which is the same as no note.
    await files.overwrite(path, encodeJson(nodeState)).catch((second: unknown) => {
      if (strict) throw error;
      domain.log.warn(
        { volumeId: volume.record.id, problem: messageOf(second) },
        'the disk is full: notes about mounts cannot be written; after a restart the kernel is asked instead',
      );
    });
  }
  pool.nodeStates.set(record.id, nodeState);
}

function isEmpty({ staged, published, dockerMountIds }: NodeRecord): boolean {
  return staged === null && published.length === 0 && dockerMountIds.length === 0;
}

function nodeStatePath(volume: FoundVolume): string {
  return volume.pool.pathOf(volume.area, volume.record.id, entryFiles.nodeState);
}
