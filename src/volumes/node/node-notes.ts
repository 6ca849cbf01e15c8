import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import { type NodeRecord, nodeRecord, readRecord, writeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import type { FoundVolume } from '../pools/pools.ts';

const nothing: NodeRecord = {
  schemaVersion: 1,
  staged: null,
  published: [],
  dockerMountIds: [],
};

/**
 * The arguments of the stage and publish calls of one volume, which the kernel does not keep. An entry says what was asked;
 * whether it still holds is asked from mountinfo by the caller.
 */
export async function readNotes(domain: Domain, volume: FoundVolume): Promise<NodeRecord> {
  try {
    return await readRecord(nodeRecord, notesPath(volume));
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) {
      domain.log.warn(
        { volumeId: volume.record.id, problem: messageOf(error) },
        'notes about mounts cannot be read; the kernel is asked instead',
      );
    }
    return nothing;
  }
}

/** Replaces the notes; survives SIGKILL, and need not survive more: a power cut ends the mounts too. */
export async function writeNotes(volume: FoundVolume, notes: NodeRecord): Promise<void> {
  await writeRecord(nodeRecord, notesPath(volume), notes, { durable: false });
}

function notesPath(volume: FoundVolume): string {
  return volume.pool.pathOf(volume.area, volume.record.id, 'node.json');
}
