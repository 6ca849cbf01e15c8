import { noLimits } from '../../src/host/loop/io-limits.ts';
import { groupIdFor, snapshotIdFor, volumeIdFor } from '../../src/ids.ts';
import type { Volumes } from '../../src/volumes/api.ts';
import type {
  BlockRange,
  BlockRanges,
  GroupSnapshot,
  Snapshot,
  Volume,
} from '../../src/volumes/model.ts';
import { noPieces } from '../../src/volumes/snapshot/pieces.ts';

/** A call made to the fake. */
export interface Recorded {
  readonly method: string;
  readonly input: unknown;
}

export const aVolume: Volume = {
  pool: 'default',
  record: {
    schemaVersion: 1,
    id: volumeIdFor('pvc-1', '0123abcd'),
    name: 'pvc-1',
    kind: 'mount',
    fsType: 'ext4',
    fsUuid: '7f3f0e0c-3c55-4d86-9d2c-2f6a4a9a1f10',
    provisioning: 'thin',
    sectorSize: 4096,
    sizeBytes: 1n << 30n,
    trim: 'periodic',
    limits: noLimits,
    directIo: true,
    mkfsOptions: [],
    parameters: {},
    source: null,
    ephemeralTarget: null,
    mountOptions: [],
    createdAtMs: 0,
  },
};

export const aSnapshot: Snapshot = {
  pool: 'default',
  record: {
    schemaVersion: 1,
    id: snapshotIdFor('snap-1', '0123abcd'),
    name: 'snap-1',
    kind: 'mount',
    fsType: 'ext4',
    fsUuid: aVolume.record.fsUuid,
    provisioning: 'thin',
    sectorSize: 4096,
    sizeBytes: 1n << 30n,
    sourceVolumeId: aVolume.record.id,
    groupId: null,
    groupPool: null,
    state: 'ready',
    copy: null,
    frozenMs: 42,
    parameters: {},
    createdAtMs: 1_700_000_000_123,
  },
};

export const aGroup: GroupSnapshot = {
  record: {
    schemaVersion: 1,
    id: groupIdFor('group-1', '0123abcd'),
    name: 'group-1',
    sourceVolumeIds: [aVolume.record.id],
    snapshotIds: [aSnapshot.record.id],
    elsewhere: [],
    attempt: '',
    frozenMs: 42,
    parameters: {},
    createdAtMs: 1_700_000_000_123,
  },
  snapshots: [
    { ...aSnapshot, record: { ...aSnapshot.record, groupId: groupIdFor('group-1', '0123abcd') } },
  ],
};

/** Methods without a call context: they never wait. */
const reads: ReadonlySet<string> = new Set([
  'getVolume',
  'listVolumes',
  'findMismatch',
  'capacity',
  'volumeStats',
  'volumeHealth',
  'listVolumeHealth',
  'storageHealth',
  'findReadinessProblem',
  'inventory',
  'getSnapshot',
  'listSnapshots',
  'getGroupSnapshot',
]);

/** Methods that the log and health messages call; they are not recorded. */
const owners: ReadonlySet<string> = new Set(['ownerOf', 'ownerFieldsOf']);

/** Ranges that are available at once. */
export function rangesOf(...batches: readonly (readonly BlockRange[])[]): BlockRanges {
  async function* all(): AsyncGenerator<readonly BlockRange[]> {
    yield* batches;
  }
  return { volumeBytes: 1n << 30n, batches: all() };
}

/**
 * The domain as a front sees it, without the domain: every call is recorded and returns a plausible result. `overrides`
 * replace results, fail or wait.
 */
export function fakeVolumes(overrides: Partial<Volumes> = {}): {
  readonly volumes: Volumes;
  readonly calls: readonly Recorded[];
} {
  const calls: Recorded[] = [];
  const answers: Volumes = {
    createVolume: async () => aVolume,
    deleteVolume: async () => undefined,
    getVolume: async () => aVolume,
    runningCopies: () => [],
    listVolumes: async () => ({ entries: [aVolume], nextToken: '' }),
    findMismatch: async () => undefined,
    capacity: async () => ({
      availableBytes: 5n,
      maximumVolumeBytes: 4n,
      minimumVolumeBytes: 1n,
    }),
    expandVolume: async () => ({ sizeBytes: 2n << 30n, remaining: 'node-expand' }),
    modifyVolume: async () => undefined,
    stageVolume: async () => undefined,
    unstageVolume: async () => undefined,
    publishVolume: async () => undefined,
    unpublishVolume: async () => undefined,
    createSnapshot: async () => aSnapshot,
    deleteSnapshot: async () => undefined,
    getSnapshot: async () => aSnapshot,
    listSnapshots: async () => ({ entries: [aSnapshot], nextToken: '' }),
    watchSnapshot: async function* () {
      yield { doneBytes: 5n, totalBytes: 5n, ready: true, error: '' };
    },
    createGroupSnapshot: async () => aGroup,
    deleteGroupSnapshot: async () => undefined,
    getGroupSnapshot: async () => aGroup,
    allocatedRanges: async () => rangesOf([{ offset: 0n, length: 4096n }]),
    changedRanges: async () => rangesOf([{ offset: 4096n, length: 4096n }]),
    describeSource: async () => ({
      state: 'pool:1:2',
      kind: 'mount',
      fsType: 'ext4',
      sectorSize: 4096,
      provisioning: 'thin',
      sizeBytes: 1n << 30n,
      allocatedBytes: 4096n,
      growthLimit: undefined,
    }),
    async *readSource() {
      yield { sizeBytes: 1n << 30n, digest: noPieces };
    },
    closeSource: async () => undefined,
    async *takeGroupPart() {
      yield { kind: 'planned', liveVolumeIds: [] };
    },
    advanceGroupPart: async () => ({}),
    findGroupState: async () => ({ kind: 'none' }),
    settleGroupPart: async () => undefined,
    removeGroupPart: async () => undefined,
    allowsTransfers: false,
    volumeStats: async () => ({
      kind: 'mount',
      totalBytes: 100n,
      usedBytes: 40n,
      availableBytes: 60n,
      totalInodes: 10n,
      usedInodes: 3n,
      availableInodes: 7n,
    }),
    nodeExpandVolume: async () => ({ sizeBytes: 2n << 30n }),
    ownerOf: () => undefined,
    ownerFieldsOf: () => ({}),
    volumeHealth: async () => [],
    listVolumeHealth: async () => ({ entries: [], nextToken: '' }),
    storageHealth: async () => [],
    findReadinessProblem: async () => undefined,
    inventory: () => ({
      nodeTag: '0123abcd',
      pools: [{ name: 'default', uuid: 'd1ed5a4e-7d5c-4d5b-9a2f-8b6a4b1a2c3d' }],
      foreignIds: [],
      volumeCount: 0,
      undecidedGroups: [],
    }),
    maxVolumesPerNode: 100,
    ...overrides,
  };
  const volumes = new Proxy(answers, {
    get: (target, name) => {
      const found: unknown = Reflect.get(target, name);
      if (typeof found !== 'function' || owners.has(String(name))) return found;
      return (...given: readonly unknown[]): unknown => {
        calls.push({ method: String(name), input: given[reads.has(String(name)) ? 0 : 1] });
        return Reflect.apply(found, target, given);
      };
    },
  });
  return { volumes, calls };
}
