import { type EntryId, nodeTagIn } from '../../ids.ts';
import type { Pools } from './pools.ts';
import type { UndecidedGroup } from './set-aside.ts';

/** What a node has, as its agent tells the controller. */
export interface NodeInventory {
  /** The end of the ids of this node. */
  readonly nodeTag: string;
  /** The pools that are served. */
  readonly pools: readonly { readonly name: string; readonly uuid: string }[];
  /**
   * Usable volumes, snapshots and groups whose id ends in another node's tag, sorted. Also those of pools that were read but are not
   * served now: without them, calls would go to the node of the tag, which would say that they do not exist.
   */
  readonly foreignIds: readonly EntryId[];
  /** Number of volumes, inline volumes included, also of pools that were read but are not served now. */
  readonly volumeCount: number;
  /** Groups of which the node has members, and does not know whether they exist. */
  readonly undecidedGroups: readonly UndecidedGroup[];
}

/** Reads only memory, so that a pool that hangs does not delay the answer. */
export function inventoryOf(pools: Pools, nodeTag: string): NodeInventory {
  const { served } = pools;
  const ids = pools.all.flatMap(({ volumes, snapshots, groups }): readonly EntryId[] =>
    [...volumes.values(), ...snapshots.values(), ...groups.values()].map(({ id }) => id),
  );
  return {
    nodeTag,
    pools: served.flatMap(({ name, marker }) =>
      marker === undefined ? [] : [{ name, uuid: marker.uuid }],
    ),
    foreignIds: ids.filter((id) => nodeTagIn(id) !== nodeTag).sort(),
    volumeCount: pools.all.reduce(
      (sum, { volumes, ephemerals }) => sum + volumes.size + ephemerals.size,
      0,
    ),
    undecidedGroups: undecidedGroupsOf(pools),
  };
}

function undecidedGroupsOf(pools: Pools): readonly UndecidedGroup[] {
  const found = pools.all
    .flatMap(({ snapshots }) => [...snapshots.aside.values()])
    .flatMap(({ group }) => (group === undefined ? [] : [group]));
  return [...new Map(found.map((group) => [`${group.groupId} ${group.attempt}`, group])).values()];
}
