import { VolumeError } from '../../errors.ts';
import type { Mount } from '../../host/host.ts';
import { showsDevice } from '../../host/mount/loop-mounts.ts';
import type { Publication } from '../../state/records.ts';
import type { PublishInput } from '../model.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { type Attachment } from './attachment.ts';
import { areSameFlags } from './capability-fit.ts';
import { lostDeviceError } from './lost-device.ts';

/** Whether writes must be refused: by the flag, the access mode, or the mount options. */
export function isReadOnly(input: PublishInput): boolean {
  const { accessMode } = input.capability;
  return (
    input.readOnly ||
    accessMode === 'SINGLE_NODE_READER_ONLY' ||
    accessMode === 'MULTI_NODE_READER_ONLY' ||
    input.capability.mountFlags.includes('ro')
  );
}

/** What is noted of a publication, to tell a repeated call from a conflicting one. */
export function publicationOf(input: PublishInput): Publication {
  const { accessMode, mountFlags, fsType } = input.capability;
  return {
    targetPath: input.targetPath,
    readOnly: isReadOnly(input),
    accessMode,
    mountFlags: [...mountFlags],
    fsType,
  };
}

/** Of what was asked, what the kernel still shows: also a node whose device was lost, until its target is unpublished. */
export function livePublications(
  published: readonly Publication[],
  present: Attachment,
): readonly Publication[] {
  return published.filter(({ targetPath }) =>
    [...present.mounts, ...present.lost].some((mount) => mount.target === targetPath),
  );
}

/** Throws `conflict` when what is mounted at the target was asked for otherwise, `wrong-state` when it is not this volume. */
export function requireSamePublication(
  volume: FoundVolume,
  at: {
    top: Mount;
    present: Attachment;
    wanted: Publication;
    published: readonly Publication[];
  },
): void {
  const { ephemeralTarget, name } = volume.record;
  const id = ephemeralTarget === null ? volume.record.id : name;
  const { top, present, wanted, published } = at;
  if (present.lost.some((mount) => mount.id === top.id)) throw lostDeviceError(id, [top.target]);
  const device = present.mounts.some((mount) => mount.id === top.id)
    ? present.devices.find((one) => showsDevice(top, one))
    : undefined;
  if (device === undefined) {
    throw new VolumeError(
      'wrong-state',
      `volume '${id}': something else (${top.source}) is mounted at ${top.target}; unmount it first`,
    );
  }
  const noted = published.find(({ targetPath }) => targetPath === wanted.targetPath);
  const isReadOnlyThere =
    volume.record.kind === 'block' ? device.readOnly : top.options.includes('ro');
  const alike =
    isReadOnlyThere === wanted.readOnly &&
    (noted === undefined ||
      (noted.accessMode === wanted.accessMode &&
        (noted.fsType === wanted.fsType || noted.fsType === '' || wanted.fsType === '') &&
        areSameFlags(noted.mountFlags, wanted.mountFlags)));
  if (alike) return;
  throw new VolumeError(
    'conflict',
    `volume '${id}' is mounted at ${wanted.targetPath} otherwise ` +
      `(${noted?.accessMode ?? 'unknown mode'}, ${isReadOnlyThere ? 'read-only' : 'read-write'}, mount flags '${noted?.mountFlags.join(',') ?? ''}'); unmount it there first`,
  );
}
