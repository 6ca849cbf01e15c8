import type { Domain } from '../domain.ts';
import type { Snapshots } from '../snapshots-api.ts';
import { allocatedRanges, changedRanges } from './changed-blocks.ts';
import { createSnapshot } from './create.ts';
import { deleteSnapshot } from './delete.ts';
import { deleteGroupSnapshot, getGroupSnapshot } from './group.ts';
import { createGroupSnapshot } from './group-create.ts';
import { getSnapshot, listSnapshots, watchSnapshot } from './list.ts';

/** The calls about snapshots, each a story in its own file. */
export function snapshotCalls(domain: Domain): Snapshots {
  return {
    createSnapshot: (call, input) => createSnapshot(domain, call, input),
    deleteSnapshot: (call, snapshotId) => deleteSnapshot(domain, call, snapshotId),
    getSnapshot: async (_call, snapshotId) => getSnapshot(domain, snapshotId),
    listSnapshots: async (_call, asked) => listSnapshots(domain, asked),
    watchSnapshot: (call, snapshotId) => watchSnapshot(domain, call, snapshotId),
    createGroupSnapshot: (call, input) => createGroupSnapshot(domain, call, input),
    deleteGroupSnapshot: (call, groupId, snapshotIds) =>
      deleteGroupSnapshot(domain, call, groupId, snapshotIds),
    getGroupSnapshot: async (_call, groupId, snapshotIds) =>
      getGroupSnapshot(domain, groupId, snapshotIds),
    allocatedRanges: (call, asked) => allocatedRanges(domain, call, asked),
    changedRanges: (call, asked) => changedRanges(domain, call, asked),
  };
}
