import type { FsType, Host } from '../../host/host.ts';
import type { SnapshotRecord, VolumeRecord } from '../../state/records.ts';
import { filesystemIn } from '../attachment/image-content.ts';
import { findGrowthLimit, type GrowthLimit } from '../capacity.ts';

/** What a copy has to know about the filesystem in the image of its source. */
export interface FilesystemFacts {
  /** Also of a raw block volume, which may be copied to a volume with that filesystem (ADR 0032); null if there is none. */
  readonly fsType: FsType | null;
  readonly growthLimit: GrowthLimit | undefined;
}

export async function filesystemFactsOf(
  host: Pick<Host, 'filesystems' | 'files'>,
  record: Pick<SnapshotRecord | VolumeRecord, 'kind' | 'fsType'>,
  image: { readonly path: string; readonly sizeBytes: bigint },
): Promise<FilesystemFacts> {
  const fsType = record.kind === 'mount' ? record.fsType : await filesystemIn(host, image.path);
  return { fsType, growthLimit: await findGrowthLimit(host.filesystems, fsType, image) };
}
