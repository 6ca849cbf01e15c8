import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno, isStorageFailure } from '../../host/errors.ts';
import { encodeJson, LaterVersionError } from '../../state/decode.ts';
import { type NodeState, nodeStateSchema, readRecord, writeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { entryFiles } from '../pool/layout.ts';
import type { FoundVolume } from '../pool/pool.ts';

const emptyState: NodeState = {
  schemaVersion: 1,
  staged: null,
  published: [],
  dockerMountIds: [],
};

/**
 * Reads the node state of a volume: the arguments of its stage and publish calls, which the kernel does not keep. An entry contains
 * what was requested; the caller checks mountinfo to determine whether it is still mounted. The file is read from the disk once,
 * since no other process writes to a pool. A torn file, and one of a later version, count as empty; a read that fails makes the call
 * fail.
 */
export async function readNodeState(domain: Domain, volume: FoundVolume): Promise<NodeState> {
  const { pool, record } = volume;
  const known = pool.nodeStates.get(record.id);
  if (known !== undefined) return known;
  const nodeState = await readFromDisk(domain, volume);
  pool.nodeStates.set(record.id, nodeState);
  return nodeState;
}

/**
 * Throws `wrong-state` if a later version of the driver wrote the node state. Called before a volume is mounted: what has to be
 * recorded then would replace information that this version cannot read.
 */
export async function requireWritableNodeState(domain: Domain, volume: FoundVolume): Promise<void> {
  await readNodeState(domain, volume);
  const later = volume.pool.laterNodeStates.get(volume.record.id);
  if (later !== undefined) throw later;
}

/**
 * Reads the node state for unpublish and unstage. Returns undefined if the disk cannot read the file, since pods must be able to
 * terminate. The callers then rely on the mount table of the kernel alone, and do not overwrite a file that may be intact.
 */
export async function readNodeStateIfReadable(
  domain: Domain,
  volume: FoundVolume,
): Promise<NodeState | undefined> {
  try {
    return await readNodeState(domain, volume);
  } catch (error) {
    if (!isStorageFailure(error)) throw error;
    domain.log.warn(
      { volumeId: volume.record.id, problem: messageOf(error) },
      'the node state could not be read from the disk; the mount table of the kernel is used instead',
    );
    return undefined;
  }
}

async function readFromDisk(domain: Domain, volume: FoundVolume): Promise<NodeState> {
  try {
    return await readRecord(domain.host.files, nodeStateSchema, nodeStatePath(volume));
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return emptyState;
    // The file may be intact: if it counted as empty, it would be overwritten.
    if (!(error instanceof VolumeError)) throw error;
    if (error instanceof LaterVersionError) {
      volume.pool.laterNodeStates.set(volume.record.id, error);
    }
    domain.log.warn(
      { volumeId: volume.record.id, problem: messageOf(error) },
      'the node state could not be decoded; the mount table of the kernel is used instead',
    );
    return emptyState;
  }
}

/**
 * Replaces the node state. It survives SIGKILL but not a power failure, which ends the mounts too. A full disk must not keep pods
 * from starting or terminating: the old file is then overwritten in place, which needs no new block, and if that fails too the
 * change is only logged. A file of a later version is not changed. `strict`: this information exists nowhere else, so a failed write
 * fails the call.
 */
export async function writeNodeState(
  domain: Domain,
  volume: FoundVolume,
  nodeState: NodeState,
  { strict = false }: { strict?: boolean } = {},
): Promise<void> {
  const { pool, record } = volume;
  const path = nodeStatePath(volume);
  const { files } = domain.host;
  const later = pool.laterNodeStates.get(record.id);
  if (later !== undefined) {
    // An unpublish or unstage has taken effect in the kernel, and the file stays as its version wrote it.
    if (strict) throw later;
    pool.nodeStates.set(record.id, nodeState);
    return;
  }
  // After a failed write, the file is read again.
  pool.nodeStates.delete(record.id);
  try {
    if (isEmpty(nodeState)) await files.removeFile(path);
    else
      await writeRecord(files, path, { schema: nodeStateSchema, value: nodeState, durable: false });
  } catch (error) {
    if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
    // A file that a crash tears cannot be decoded and counts as empty.
    await files.overwrite(path, encodeJson(nodeState)).catch((second: unknown) => {
      if (strict) throw error;
      domain.log.warn(
        { volumeId: volume.record.id, problem: messageOf(second) },
        'the disk was full and the node state could not be written; after a restart the mount table is used instead',
      );
    });
  }
  pool.nodeStates.set(record.id, nodeState);
}

/**
 * Replaces the node state to add information that no call needs. A failure is logged, and the old file stays as it was: unlike
 * `writeNodeState`, nothing is overwritten in place, because SIGKILL during that could tear an intact file.
 */
export async function tryWriteNodeState(
  domain: Domain,
  volume: FoundVolume,
  nodeState: NodeState,
): Promise<void> {
  const { pool, record } = volume;
  if (pool.laterNodeStates.has(record.id)) return;
  try {
    await writeRecord(domain.host.files, nodeStatePath(volume), {
      schema: nodeStateSchema,
      value: nodeState,
      durable: false,
    });
    pool.nodeStates.set(record.id, nodeState);
  } catch (error) {
    domain.log.warn(
      { volumeId: record.id, problem: messageOf(error) },
      'the node state could not be written; it lacks only information that no call needs',
    );
  }
}

function isEmpty({ staged, published, dockerMountIds }: NodeState): boolean {
  return staged === null && published.length === 0 && dockerMountIds.length === 0;
}

function nodeStatePath(volume: FoundVolume): string {
  return volume.pool.pathOf(volume.area, volume.record.id, entryFiles.nodeState);
}
