import type { GroupId, SnapshotId } from '../../ids.ts';
import type { SnapshotRecord } from '../../state/records.ts';
import type { Capture } from './capture.ts';

/** The fields of a snapshot's record that are not derived from its source. */
export interface SnapshotDraft {
  readonly id: SnapshotId;
  readonly name: string;
  readonly groupId: GroupId | null;
  readonly groupPool: string | null;
  readonly parameters: Readonly<Record<string, string>>;
  /** Of a member whose group is not committed yet on the node that keeps its record. */
  readonly prepared?: { readonly attempt: string };
}

export function newSnapshotRecord(
  capture: Capture,
  draft: SnapshotDraft,
  taken: { atMs: number; frozenMs: number },
): SnapshotRecord {
  const { record } = capture.source;
  const { kind, fsType, fsUuid, provisioning, sectorSize } = record;
  return {
    schemaVersion: 1,
    ...draft,
    parameters: { ...draft.parameters },
    kind,
    fsType,
    fsUuid,
    provisioning,
    sectorSize,
    // The captured size: a promised growth of the volume may not have reached the image yet.
    sizeBytes: capture.image.sizeBytes,
    sourceVolumeId: record.id,
    state: 'ready',
    copy: null,
    frozenMs: taken.frozenMs,
    createdAtMs: taken.atMs,
  };
}
