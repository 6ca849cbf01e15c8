/** The driver as an orchestrator uses it: it creates, stages and publishes volumes over CSI, to directories of pods. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { makeClient } from '../../src/csi/client.ts';
import type { Lab, NodeSpace } from '../docker/lab.ts';
import { startDriver } from '../helpers/driver.ts';

const capability = {
  access_type: 'mount',
  mount: { fs_type: '', mount_flags: [], volume_mount_group: '' },
  access_mode: { mode: 'SINGLE_NODE_MULTI_WRITER' },
} as const;

export interface CsiDriver {
  readonly directory: string;
  /** Creates and stages a volume, and returns its id. */
  make(name: string, bytes: bigint): Promise<string>;
  publish(volumeId: string, targetPath: string, readonly?: boolean): Promise<void>;
  unpublish(volumeId: string, targetPath: string): Promise<void>;
  /** Unstages and deletes the volume. */
  remove(volumeId: string): Promise<void>;
}

export async function startCsiDriver(lab: Lab, node: NodeSpace): Promise<CsiDriver> {
  const directory = join(node.directory, 'driver');
  await mkdir(join(directory, 'staging'), { recursive: true });
  const driver = await startDriver(directory, ['--http-address=off']);
  lab.atEnd(() => driver.stop());
  const endpoint = `unix://${driver.endpoint}`;
  const controller = makeClient('csi.v1.Controller', endpoint);
  const onNode = makeClient('csi.v1.Node', endpoint);
  lab.atEnd(async () => {
    controller.close();
    onNode.close();
  });
  const stagingOf = (id: string): string => join(directory, 'staging', id);
  return {
    directory,
    make: async (name, bytes) => {
      const { volume } = await controller.CreateVolume({
        name,
        capacity_range: { required_bytes: bytes, limit_bytes: 0n },
        volume_capabilities: [capability],
      });
      const id = volume?.volume_id ?? '';
      await mkdir(stagingOf(id));
      await onNode.NodeStageVolume({
        volume_id: id,
        staging_target_path: stagingOf(id),
        volume_capability: capability,
      });
      return id;
    },
    publish: async (id, targetPath, readonly = false) => {
      await onNode.NodePublishVolume({
        volume_id: id,
        staging_target_path: stagingOf(id),
        target_path: targetPath,
        volume_capability: capability,
        readonly,
      });
    },
    unpublish: async (id, targetPath) => {
      await onNode.NodeUnpublishVolume({ volume_id: id, target_path: targetPath });
    },
    remove: async (id) => {
      await onNode.NodeUnstageVolume({ volume_id: id, staging_target_path: stagingOf(id) });
      await controller.DeleteVolume({ volume_id: id });
    },
  };
}
