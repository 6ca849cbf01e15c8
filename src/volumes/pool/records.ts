import type { Files } from '../../host/host.ts';
import type { EntryId, EntryName } from '../../ids.ts';
import type { Logger } from '../../observe/log.ts';
import {
  type GroupRecord,
  groupRecord,
  type SnapshotRecord,
  snapshotRecord,
  type VolumeRecord,
  volumeRecord,
} from '../../state/records.ts';
import { areaIn, type RecordArea, recordAreas, recordFiles } from './layout.ts';
import { loadArea, loadEntries } from './load-records.ts';
import { RecordIndex } from './record-index.ts';

/** The records of one area, and its entries that are set aside. */
export type AreaIndex = RecordIndex<VolumeRecord | SnapshotRecord | GroupRecord>;

/** The records of one pool in memory, by area. */
export class PoolRecords {
  readonly volumes = new RecordIndex<VolumeRecord>();
  readonly ephemeral = new RecordIndex<VolumeRecord>();
  readonly snapshots = new RecordIndex<SnapshotRecord>();
  readonly groups = new RecordIndex<GroupRecord>();

  /** Reads the records of the pool at `root`, and logs the entries that are set aside. */
  async load(files: Files, root: string, log: Logger): Promise<void> {
    const { volumes, ephemeral, snapshots, groups } = this.#areasIn(root);
    await loadArea(files, volumes);
    await loadArea(files, ephemeral);
    await loadArea(files, snapshots);
    await loadArea(files, groups);
    for (const area of recordAreas) {
      for (const [id, { kind, message }] of this.of(area).aside) {
        // The controller decides about a member of a group soon, and nobody needs to do anything about it.
        const level = kind === 'undecided' ? 'info' : 'error';
        log[level]({ id, kind, problem: message }, 'an entry was set aside');
      }
    }
  }

  /** Reads one entry again, because it may have changed or been removed. */
  async loadEntry(
    files: Files,
    root: string,
    { area, name }: { readonly area: RecordArea; readonly name: EntryName },
  ): Promise<void> {
    const { volumes, ephemeral, snapshots, groups } = this.#areasIn(root);
    if (area === 'volumes') await loadEntries(files, volumes, [name]);
    else if (area === 'ephemeral') await loadEntries(files, ephemeral, [name]);
    else if (area === 'snapshots') await loadEntries(files, snapshots, [name]);
    else await loadEntries(files, groups, [name]);
  }

  of(area: RecordArea): AreaIndex {
    return this[area];
  }

  has(id: EntryId): boolean {
    return recordAreas.some((area) => this.of(area).get(id) !== undefined);
  }

  #areasIn(root: string) {
    const names = (area: RecordArea) => ({
      directory: areaIn(root, area),
      file: recordFiles[area],
    });
    return {
      volumes: { ...names('volumes'), schema: volumeRecord, index: this.volumes },
      ephemeral: { ...names('ephemeral'), schema: volumeRecord, index: this.ephemeral },
      snapshots: { ...names('snapshots'), schema: snapshotRecord, index: this.snapshots },
      groups: { ...names('groups'), schema: groupRecord, index: this.groups },
    };
  }
}
