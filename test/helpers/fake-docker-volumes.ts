import { VolumeError } from '../../src/errors.ts';
import { type VolumeId, volumeIdFor } from '../../src/ids.ts';
import type { DockerVolumes } from '../../src/volumes/docker/volumes.ts';
import type { CreateVolumeInput, Volume } from '../../src/volumes/model.ts';
import { aVolume, fakeVolumes } from './fake-volumes.ts';

/** A domain in memory with the volumes and mounts of the Docker front, so that tests can make several calls in sequence. */
export function fakeDocker(overrides: Partial<DockerVolumes> = {}) {
  const all = new Map<string, Volume>();
  const mountIds = new Map<VolumeId, Set<string>>();
  const idOf = (name: string): VolumeId => volumeIdFor(name, '0123abcd');
  const created: CreateVolumeInput[] = [];
  const { volumes } = fakeVolumes({});
  const docker: DockerVolumes = {
    findVolume: (name) => all.get(idOf(name)) ?? all.get(name),
    listVolumes: () => [...all.values()],
    isKnown: async () => false,
    create: async (_call, input) => {
      created.push(input);
      const volume: Volume = {
        pool: input.settings.pool ?? 'default',
        record: {
          ...aVolume.record,
          id: idOf(input.name),
          name: input.name,
          fsType: input.fsType,
          sizeBytes: input.range.requiredBytes || 1n << 30n,
        },
      };
      all.set(volume.record.id, volume);
    },
    remove: async (_call, id) => {
      mountIds.delete(id);
      all.delete(id);
    },
    findSource: (name) => {
      const found = all.get(idOf(name));
      if (found === undefined) throw new VolumeError('not-found', `there is no '${name}'`);
      const { id, kind, fsType, sizeBytes } = found.record;
      return { source: { kind: 'volume', id }, kind, fsType, sizeBytes, pool: found.pool };
    },
    mount: async (_call, { volumeId, mountId }) => {
      mountIds.set(volumeId, (mountIds.get(volumeId) ?? new Set()).add(mountId));
      return `/mnt/${volumeId}`;
    },
    unmount: async (_call, { volumeId, mountId }) => {
      const left = mountIds.get(volumeId);
      left?.delete(mountId);
      if (left?.size === 0) mountIds.delete(volumeId);
    },
    mountedPaths: async () => new Map([...mountIds.keys()].map((id) => [id, `/mnt/${id}`])),
    usage: async () => ({ usedBytes: 5n << 20n, allocatedBytes: 6n << 20n, snapshots: ['s1'] }),
    ...overrides,
  };
  return {
    front: { volumes, docker, nodeId: 'node-1', defaultFsType: 'ext4' as const },
    /** The inputs of all `create` calls. */
    created,
    /** Adds a volume that Docker did not create. */
    addVolume: (volume: Volume): void => {
      all.set(volume.record.id, volume);
    },
  };
}
