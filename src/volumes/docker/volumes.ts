/**
 * The calls that only Docker's front needs, in addition to `Volumes`: volumes by name, and mounts in the driver's mount
 * directory.
 */
import { VolumeError } from '../../errors.ts';
import type { FsType } from '../../host/host.ts';
import {
  otherNodeTagIn,
  parseSnapshotId,
  parseVolumeId,
  snapshotIdFor,
  type VolumeId,
  volumeIdFor,
} from '../../ids.ts';
import { attachmentOf, imageStatusOf } from '../attachment/attachment.ts';
import { driverMountPathOf } from '../attachment/mount-dir.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import { inLane } from '../engine/lanes.ts';
import type { Call } from '../engine/operations.ts';
import type { CreateVolumeInput, Volume, VolumeSource } from '../model.ts';
import type { FoundVolume } from '../pool/pool.ts';
import type { FoundSnapshot } from '../pool/pools.ts';
import { createVolume } from '../volume/create.ts';
import { deleteVolume } from '../volume/delete.ts';
import { listKnownVolumes } from '../volume/list.ts';
import type { KnownVolumes } from './known-volumes.ts';
import { type MountInput, mountForDocker, unmountForDocker, unmountUnused } from './mounts.ts';

/** The source of a new volume, with the defaults for values that the request omits. */
export interface FoundSource {
  readonly source: VolumeSource;
  readonly kind: 'mount' | 'block';
  readonly fsType: FsType | null;
  readonly sizeBytes: bigint;
  readonly pool: string;
}

/** The present usage of a volume. */
interface VolumeUsage {
  /** undefined while the volume is not mounted, because only its mounted filesystem reports it. */
  readonly usedBytes: bigint | undefined;
  /** Bytes allocated to the image in the pool, including shared blocks. */
  readonly allocatedBytes: bigint;
  /** Names of its snapshots, in ascending order. */
  readonly snapshots: readonly string[];
}

export interface DockerVolumes {
  /** Finds a volume by its name, else by its id. Throws `unavailable` while a pool that may contain it is not served. */
  findVolume(name: string): Volume | undefined;
  /** All volumes of pools that were read since the driver started, by id. `docker volume ls` shows them, whatever other pools do. */
  listVolumes(): readonly Volume[];
  /**
   * Whether a volume of that name exists, or is known to Docker and may be in a pool that is not served. Does not throw when
   * `findVolume` does.
   */
  isKnown(name: string): Promise<boolean>;
  /** Creates a volume as CreateVolume does, and records that Docker knows it. */
  create(call: Call, input: CreateVolumeInput): Promise<void>;
  /**
   * Finds a snapshot or volume by its name or id. If both exist, the prefix `snapshot:` or `volume:` is needed. Throws
   * `not-found`, and `invalid` for an ambiguous name.
   */
  findSource(name: string): FoundSource;
  /** Mounts a volume for a mount ID and returns the path. Throws `wrong-state` while it is staged through CSI. */
  mount(call: Call, input: MountInput): Promise<string>;
  /** Removes a mount ID. With the last one, the volume is unmounted. */
  unmount(call: Call, input: MountInput): Promise<void>;
  /**
   * Deletes a volume that is not in use according to the kernel; recorded mount IDs are ignored. Throws `wrong-state` if it is in
   * use, and then leaves it mounted.
   */
  remove(call: Call, volumeId: VolumeId): Promise<void>;
  /** Returns the mount paths of the volumes that are mounted for Docker, by volume id. */
  mountedPaths(): Promise<ReadonlyMap<VolumeId, string>>;
  usage(volumeId: VolumeId): Promise<VolumeUsage>;
}

export function dockerVolumes(domain: Domain, known: KnownVolumes): DockerVolumes {
  return {
    findVolume: (name) => {
      const found = findVolume(domain, name);
      if (found === undefined) domain.pools.requireAllServed();
      return found === undefined ? undefined : { record: found.record, pool: found.pool.name };
    },
    listVolumes: () => listKnownVolumes(domain.pools, { maxEntries: 0, startingToken: '' }).entries,
    isKnown: async (name) => {
      for (const id of idsOf(domain, name)) {
        if (domain.pools.hasVolume(id) || (await known.has(id))) return true;
      }
      return false;
    },
    create: async (call, input) => {
      const { record, pool } = await createVolume(domain, call, input);
      await known.remember(record.id, uuidOf(domain, pool));
    },
    findSource: (name) => findSource(domain, name),
    mount: async (call, input) => {
      const path = await mountForDocker(domain, call, input);
      const { pool } = domain.pools.getVolume(input.volumeId);
      await known.remember(input.volumeId, uuidOf(domain, pool.name));
      return path;
    },
    unmount: (call, input) => unmountForDocker(domain, call, input),
    remove: async (call, volumeId) => {
      await unmountUnused(domain, call, volumeId);
      await deleteVolume(domain, call, volumeId);
      await known.forget(volumeId);
    },
    mountedPaths: () => mountedPaths(domain),
    usage: (volumeId) => usageOf(domain, domain.pools.getVolume(volumeId)),
  };
}

function uuidOf({ pools }: Domain, name: string): string {
  return pools.find(name)?.marker?.uuid ?? '';
}

/** Returns the ids that the text can mean: the id derived from it as a name, and the text itself if it is an id. */
function idsOf(domain: Domain, name: string): readonly VolumeId[] {
  const byName = volumeIdFor(name, domain.settings.nodeTag);
  const id = parseVolumeId(name);
  return id === undefined ? [byName] : [byName, id];
}

function findVolume(domain: Domain, name: string): FoundVolume | undefined {
  for (const id of idsOf(domain, name)) {
    const found = domain.pools.findVolume(id);
    if (found !== undefined) return found;
  }
  return undefined;
}

function findSnapshot(domain: Domain, name: string): FoundSnapshot | undefined {
  const byName = domain.pools.findSnapshot(snapshotIdFor(name, domain.settings.nodeTag));
  if (byName !== undefined) return byName;
  const id = parseSnapshotId(name);
  return id === undefined ? undefined : domain.pools.findSnapshot(id);
}

const sourceForm = /^(?:(?<kind>snapshot|volume):)?(?<name>.*)$/s;

function findSource(domain: Domain, text: string): FoundSource {
  const { kind, name = text } = sourceForm.exec(text)?.groups ?? {};
  const volume = kind === 'snapshot' ? undefined : findVolume(domain, name);
  const snapshot = kind === 'volume' ? undefined : findSnapshot(domain, name);
  if (volume !== undefined && snapshot !== undefined) {
    throw new VolumeError(
      'invalid',
      `'${name}' is a volume and a snapshot; write volume:${name} or snapshot:${name}`,
    );
  }
  if (volume !== undefined) return sourceOf('volume', volume);
  if (snapshot !== undefined) return sourceOf('snapshot', snapshot);
  domain.pools.requireAllServed();
  const tag = otherNodeTagIn(name, domain.settings.nodeTag);
  const where =
    tag === undefined ? '' : `; its id belongs to the node with tag ${tag}: create the copy there`;
  throw new VolumeError(
    'not-found',
    `there is no ${kind ?? 'volume or snapshot'} '${name}' on this node${where}`,
  );
}

function sourceOf(
  kind: VolumeSource['kind'],
  found: Pick<FoundVolume, 'pool'> & {
    readonly record: FoundVolume['record'] | FoundSnapshot['record'];
  },
): FoundSource {
  const { record, pool } = found;
  return {
    source: { kind, id: record.id },
    kind: record.kind,
    fsType: record.fsType,
    sizeBytes: record.sizeBytes,
    pool: pool.name,
  };
}

/** Reads mountinfo once for all volumes, because reading it for each would make long lists slow. */
async function mountedPaths(domain: Domain): Promise<ReadonlyMap<VolumeId, string>> {
  const mounted = new Set((await domain.host.mounts.list()).map(({ target }) => target));
  const paths = new Map<VolumeId, string>();
  for (const pool of domain.pools.all) {
    for (const { id } of pool.volumes.values()) {
      const path = driverMountPathOf(domain, id);
      if (mounted.has(path)) paths.set(id, path);
    }
  }
  return paths;
}

async function usageOf(domain: Domain, volume: FoundVolume): Promise<VolumeUsage> {
  const { record, pool } = volume;
  const lane = { kind: 'stats', id: record.id, pool: pool.name } as const;
  const about = { subject: `volume '${record.id}'`, disk: pool };
  return withReason(inLane(domain, lane), about, async (domain) => {
    const { mounts } = await attachmentOf(domain, volume);
    const [mount] = record.kind === 'mount' ? mounts : [];
    const capacity =
      mount === undefined ? undefined : await domain.host.files.capacity(mount.target);
    const snapshots = domain.pools.all.flatMap((one) =>
      [...one.snapshots.values()].filter(({ sourceVolumeId }) => sourceVolumeId === record.id),
    );
    return {
      usedBytes: capacity === undefined ? undefined : capacity.totalBytes - capacity.freeBytes,
      allocatedBytes: (await imageStatusOf(domain.host.files, volume)).allocatedBytes,
      snapshots: snapshots.map(({ name }) => name).sort(),
    };
  });
}
