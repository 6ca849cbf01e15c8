import { VolumeError } from '../../errors.ts';
import type { Mount } from '../../host/host.ts';
import { exposesDevice } from '../../host/mount/loop-mounts.ts';
import type { Publication } from '../../state/records.ts';
import type { PublishInput } from '../model.ts';
import { callIdOf } from '../pool/contents.ts';
import type { FoundVolume } from '../pool/pool.ts';
import type { Attachment } from './attachment.ts';
import { areSameArguments } from './capability-fit.ts';
import { foreignMountError, lostDeviceError } from './mount-errors.ts';

/** Whether the readonly field, the access mode or the mount flags forbid writes. */
export function isReadOnly(input: PublishInput): boolean {
  const { accessMode } = input.capability;
  return (
    input.readOnly ||
    accessMode === 'SINGLE_NODE_READER_ONLY' ||
    accessMode === 'MULTI_NODE_READER_ONLY' ||
    input.capability.mountFlags.includes('ro')
  );
}

/** The entry of the node state by which a repeated publish call is distinguished from a conflicting one. */
export function publicationOf(input: PublishInput, publishedAtMs: number): Publication {
  const { accessMode, mountFlags, fsType } = input.capability;
  return {
    targetPath: input.targetPath,
    readOnly: isReadOnly(input),
    accessMode,
    mountFlags: [...mountFlags],
    fsType,
    ...(input.pod === undefined ? {} : { pod: input.pod }),
    publishedAtMs,
  };
}

/** Publications that are still mounted. A publication whose device was lost counts until its target is unpublished. */
export function livePublications(
  published: readonly Publication[],
  attachment: Attachment,
): readonly Publication[] {
  return published.filter(({ targetPath }) =>
    [...attachment.mounts, ...attachment.lost].some((mount) => mount.target === targetPath),
  );
}

/** Throws `conflict` if the volume was published at the target with other arguments, `wrong-state` if another mount is there. */
export function requireSamePublication(
  volume: FoundVolume,
  at: {
    top: Mount;
    attachment: Attachment;
    wanted: Publication;
    published: readonly Publication[];
  },
): void {
  const id = callIdOf(volume);
  const { top, attachment, wanted, published } = at;
  if (attachment.lost.some((mount) => mount.id === top.id)) throw lostDeviceError(id, [top.target]);
  const device = attachment.mounts.some((mount) => mount.id === top.id)
    ? attachment.devices.find((one) => exposesDevice(top, one))
    : undefined;
  if (device === undefined) throw foreignMountError(id, top);
  const recorded = published.find(({ targetPath }) => targetPath === wanted.targetPath);
  const isMountedReadOnly =
    volume.record.kind === 'block' ? device.readOnly : top.options.includes('ro');
  const isSame =
    isMountedReadOnly === wanted.readOnly &&
    (recorded === undefined || areSameArguments(recorded, wanted));
  if (isSame) return;
  throw new VolumeError(
    'conflict',
    `volume '${id}' is mounted at ${wanted.targetPath} with other arguments ` +
      `(${recorded?.accessMode ?? 'unknown mode'}, ${isMountedReadOnly ? 'read-only' : 'read-write'}, mount flags '${recorded?.mountFlags.join(',') ?? ''}'); unmount it there first`,
  );
}
