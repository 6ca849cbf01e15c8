import type { Host, LoopDevice, Mount } from '../../host/host.ts';
import { isOnImage } from '../../host/loop/status.ts';
import { isFilesystemOn } from '../../host/mount/loop-mounts.ts';
import type { VolumeRecord } from '../../state/records.ts';
import type { VolumeArea } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';

/** A mounted thin volume, which the guard can freeze and trim. */
export interface MountedThinVolume {
  readonly record: VolumeRecord;
  readonly area: VolumeArea;
  readonly target: string;
  readonly device: LoopDevice;
  readonly imagePath: string;
}

/** Finds the thin volumes of the pool whose filesystem is mounted according to the kernel, each with one of its mounts. */
export async function findMountedThinVolumes(
  host: Host,
  pool: Pool,
  mounts: readonly Mount[],
): Promise<readonly MountedThinVolume[]> {
  const devices = await host.loops.list();
  if (devices.length === 0) return [];
  const found: MountedThinVolume[] = [];
  for (const { record, area, imagePath } of pool.images()) {
    if (record.provisioning !== 'thin' || record.fsType === null) continue;
    const image = await host.files.imageStatus(imagePath).catch(() => undefined);
    const device = devices.find((one) => !one.readOnly && isOnImage(one, image));
    const mount = device && mounts.find((one) => isFilesystemOn(one, device));
    if (device !== undefined && mount !== undefined) {
      found.push({ record, area, device, imagePath, target: mount.target });
    }
  }
  return found;
}
