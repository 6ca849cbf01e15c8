import { VolumeError } from '../../errors.ts';
import {
  type EntryId,
  type GroupId,
  parseSnapshotId,
  parseVolumeId,
  requireOwnId,
  type SnapshotId,
  type VolumeId,
} from '../../ids.ts';
import type { GroupRecord, SnapshotRecord, VolumeRecord } from '../../state/records.ts';
import { type RecordArea } from './layout.ts';
import type { FoundVolume, Pool } from './pool.ts';
import { queryEachPool } from './pool-query.ts';
import { type SetAside, setAsideError } from './set-aside.ts';

export interface FoundSnapshot {
  readonly pool: Pool;
  readonly record: SnapshotRecord;
  readonly imagePath: string;
}

/** All pools of this node. Names and ids are unique across them. */
export class Pools {
  readonly all: readonly Pool[];
  readonly #nodeTag: string;

  constructor(all: readonly Pool[], nodeTag: string) {
    this.all = all;
    this.#nodeTag = nodeTag;
  }

  get served(): readonly Pool[] {
    return this.all.filter((pool) => pool.isServed);
  }

  /** Throws `unavailable` if a configured pool is not served: an id that was not found may be in it. */
  requireAllServed(): void {
    for (const pool of this.all) pool.requireServed();
  }

  /** Throws `unavailable` if a list of all pools would be incomplete: a configured pool was never read since the driver started. */
  requireAllRead(): void {
    for (const pool of this.all) pool.requireRead();
  }

  /** The pool of that name, served or not. */
  find(name: string): Pool | undefined {
    return this.all.find((pool) => pool.name === name);
  }

  /** The pool that a request names, served or not. Throws `invalid` for an unknown name. */
  named(name: string): Pool {
    const pool = this.find(name);
    if (pool !== undefined) return pool;
    throw new VolumeError(
      'invalid',
      `there is no pool '${name}' on this node; its pools are ${this.all.map((one) => one.name).join(', ')}`,
    );
  }

  /** The pool that a request names. Throws `invalid` for an unknown name, `unavailable` for a pool that is not served. */
  servedNamed(name: string): Pool {
    const pool = this.named(name);
    pool.requireServed();
    return pool;
  }

  /**
   * The pool for a new volume: the named one, or the one with the most capacity among those whose disks answer. Throws
   * `unavailable` if there is none.
   */
  async choose(name: string | undefined): Promise<Pool> {
    if (name !== undefined) return this.servedNamed(name);
    const [first, ...others] = this.served;
    if (first === undefined) {
      this.requireAllServed();
      throw new VolumeError('unavailable', 'no pool is configured; start the driver with --pool');
    }
    if (others.length === 0) return first;
    const answers = await queryEachPool(this.served, (pool) => pool.space.availableBytes());
    const max = answers.reduce((highest, { answer }) => (answer > highest ? answer : highest), 0n);
    const best = answers.filter(({ answer }) => answer === max).map(({ pool }) => pool);
    // The answers arrive in any order, but of pools with equal capacity the first configured one is always chosen.
    return this.served.find((pool) => best.includes(pool)) ?? first;
  }

  findVolume(id: VolumeId): FoundVolume | undefined {
    for (const pool of this.all) {
      const record = pool.volumes.get(id);
      if (record === undefined) continue;
      pool.requireServed();
      return pool.volumeOf('volumes', record);
    }
    this.#requireNoneSetAside('volumes', id);
    return undefined;
  }

  /** The entries with that id that are set aside, in all pools; none if a pool has a usable entry with that id. */
  findSetAside(
    area: RecordArea,
    id: EntryId,
  ): readonly { readonly pool: Pool; readonly why: SetAside }[] {
    if (this.all.some((pool) => pool.indexOf(area).get(id) !== undefined)) return [];
    return this.all.flatMap((pool) => {
      const why = pool.indexOf(area).aside.get(id);
      return why === undefined ? [] : [{ pool, why }];
    });
  }

  /** Throws the error of an entry with that id that is set aside. An intact entry takes precedence over an unreadable one. */
  #requireNoneSetAside(area: RecordArea, id: EntryId): void {
    const found = this.findSetAside(area, id);
    const first = found.find(({ why }) => why.kind !== 'unreadable') ?? found[0];
    if (first !== undefined) throw setAsideError(first.why);
  }

  /** Whether a pool is known to contain the volume, even if its record is unreadable or the pool is not served now. */
  hasVolume(id: VolumeId): boolean {
    return this.all.some(({ volumes }) => volumes.get(id) !== undefined || volumes.aside.has(id));
  }

  /** Throws `not-found`, or `unavailable` while a pool that may contain it is not served. */
  getVolume(volumeId: string): FoundVolume {
    const id = requireOwnId<VolumeId>(volumeId, { nodeTag: this.#nodeTag, kind: 'volume' });
    const found = this.findVolume(id);
    if (found !== undefined) return found;
    this.requireAllServed();
    throw new VolumeError('not-found', `volume '${volumeId}' does not exist on this node`);
  }

  /**
   * The volume, or undefined if this node has none with that id. Throws `unavailable` while a pool that may contain it is not
   * served.
   */
  findHere(volumeId: string): FoundVolume | undefined {
    try {
      return this.getVolume(volumeId);
    } catch (error) {
      if (error instanceof VolumeError && error.reason === 'not-found') return undefined;
      throw error;
    }
  }

  /** Finds an inline volume by the id that the kubelet chose. */
  findEphemeral(volumeId: string): FoundVolume | undefined {
    for (const pool of this.all) {
      for (const record of pool.ephemerals.values()) {
        if (record.name !== volumeId) continue;
        pool.requireServed();
        return pool.volumeOf('ephemeral', record);
      }
    }
    return undefined;
  }

  /** The record of a volume by the id that calls use, even if its pool is not served; undefined if no pool is known to have it. */
  findRecord(volumeId: string): VolumeRecord | undefined {
    const id = parseVolumeId(volumeId);
    for (const { volumes, ephemerals } of this.all) {
      const record =
        (id === undefined ? undefined : volumes.get(id)) ??
        [...ephemerals.values()].find(({ name }) => name === volumeId);
      if (record !== undefined) return record;
    }
    return undefined;
  }

  /** The record of a snapshot, even if its pool is not served; undefined if no pool is known to have it. */
  findSnapshotRecord(snapshotId: string): SnapshotRecord | undefined {
    const id = parseSnapshotId(snapshotId);
    if (id === undefined) return undefined;
    return this.all.map(({ snapshots }) => snapshots.get(id)).find((one) => one !== undefined);
  }

  findSnapshot(id: SnapshotId): FoundSnapshot | undefined {
    for (const pool of this.all) {
      const record = pool.snapshots.get(id);
      if (record !== undefined) {
        pool.requireServed();
        return { pool, record, imagePath: pool.imagePathOf('snapshots', id) };
      }
    }
    this.#requireNoneSetAside('snapshots', id);
    return undefined;
  }

  /** Throws `not-found`, or `unavailable` while a pool that may contain it is not served. */
  getSnapshot(snapshotId: string): FoundSnapshot {
    const id = requireOwnId<SnapshotId>(snapshotId, { nodeTag: this.#nodeTag, kind: 'snapshot' });
    const found = this.findSnapshot(id);
    if (found !== undefined) return found;
    this.requireAllServed();
    throw new VolumeError('not-found', `snapshot '${snapshotId}' does not exist on this node`);
  }

  findGroup(id: GroupId): { readonly pool: Pool; readonly record: GroupRecord } | undefined {
    for (const pool of this.all) {
      const record = pool.groups.get(id);
      if (record !== undefined) return { pool, record };
    }
    this.#requireNoneSetAside('groups', id);
    return undefined;
  }
}
