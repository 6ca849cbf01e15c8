import type { MethodName } from '../csi/rpc-types.ts';
import { VolumeError } from '../errors.ts';
import type { Administration } from '../volumes/admin/administration.ts';
import type { Volumes } from '../volumes/api.ts';
import { poolNameForm } from '../volumes/pools/pool-settings.ts';
import { checkMessage, poolMessage, snapshotMessage, volumeMessage } from './admin-messages.ts';
import type { Weight } from './advertised.ts';
import type { Edge } from './call.ts';
import { handlersOf, type Implementation } from './handlers.ts';
import { type Service, service } from './server.ts';
import { optionalPath, parsePage, requirePath, requireText } from './validate.ts';

const weights = {
  ListPools: 'read',
  InitPool: 'change',
  AdoptPool: 'change',
  ForgetPool: 'change',
  RecoverPool: 'change',
  GrowPool: 'change',
  ListVolumes: 'read',
  GetVolume: 'read',
  MountVolume: 'change',
  UnmountVolume: 'change',
  ExpandVolume: 'change',
  ListSnapshots: 'read',
  GetSnapshot: 'read',
  WatchSnapshot: 'read',
  GetProgress: 'chatter',
  Doctor: 'read',
} as const satisfies { readonly [M in MethodName<'loopcsi.v1.Admin'>]?: Weight };

/** What the calls of Admin work with. */
export interface AdminFront {
  readonly administration: Administration;
  readonly volumes: Volumes;
}

/** `loopcsi.v1.Admin` for the server: what the command line needs beside CSI, on the same socket. */
export function adminServer(front: AdminFront, edge: Edge): Service {
  const calls = new Map(
    Object.entries<Weight>(weights).map(([rpc, weight]) => [rpc, { weight, offered: true }]),
  );
  return service(
    'loopcsi.v1.Admin',
    handlersOf('loopcsi.v1.Admin', adminService(front), edge, { calls, limited: false }),
  );
}

/** csi-proto/loopcsi.proto, "Admin". */
export function adminService(front: AdminFront): Implementation<'loopcsi.v1.Admin'> {
  const { administration } = front;
  return { ...poolCalls(administration), ...volumeCalls(administration), ...snapshotCalls(front) };
}

function poolCalls(admin: Administration): Implementation<'loopcsi.v1.Admin'> {
  return {
    async ListPools(_request, call) {
      return { pools: (await admin.listPools(call)).map(poolMessage) };
    },

    async InitPool(request, call) {
      const { pool, existed } = await admin.initPool(call, {
        name: requirePoolName(request.name),
        path: optionalPath(request.path, 'path'),
        embeddedBytes: embeddedBytesOf(request.embedded_size_bytes),
        force: request.force,
      });
      return { pool: poolMessage(pool), existed };
    },

    async GrowPool(request, call) {
      const name = requirePoolName(request.name);
      if (request.size_bytes <= 0n) {
        throw new VolumeError('invalid', `size_bytes ${request.size_bytes} is no size`);
      }
      const pool = await admin.growPool(call, { name, sizeBytes: request.size_bytes });
      return { pool: poolMessage(pool) };
    },

    async AdoptPool(request, call) {
      return { pool: poolMessage(await admin.adoptPool(call, requirePoolName(request.name))) };
    },

    async ForgetPool(request, call) {
      const { path, uuid, volumeIds } = await admin.forgetPool(call, {
        name: requirePoolName(request.name),
        path: optionalPath(request.path, 'path'),
        uuid: request.uuid,
      });
      return { path, uuid, volume_ids: [...volumeIds] };
    },

    async RecoverPool(request, call) {
      return { pool: poolMessage(await admin.recoverPool(call, requirePoolName(request.name))) };
    },

    async GetProgress(request, call) {
      const { volume_name: volume, snapshot_name: snapshot } = request;
      const made =
        volume === ''
          ? ({ kind: 'snapshot', name: requireText(snapshot, 'snapshot_name') } as const)
          : ({ kind: 'volume', name: volume } as const);
      const progress = await admin.progress(call, made);
      return { done_bytes: progress?.doneBytes ?? 0n, total_bytes: progress?.totalBytes ?? 0n };
    },

    async Doctor(_request, call) {
      return { checks: (await admin.diagnose(call)).map(checkMessage) };
    },
  };
}

function volumeCalls(admin: Administration): Implementation<'loopcsi.v1.Admin'> {
  return {
    async ListVolumes(request, call) {
      const page = { ...parsePage(request), pool: request.pool };
      const { entries, nextToken } = await admin.listVolumes(call, page);
      return { volumes: entries.map(volumeMessage), next_token: nextToken };
    },

    async GetVolume(request, call) {
      const idOrName = requireText(request.volume_id, 'volume_id');
      return { volume: volumeMessage(await admin.getVolume(call, idOrName)) };
    },

    async MountVolume(request, call) {
      await admin.mountVolume(call, {
        volumeId: requireText(request.volume_id, 'volume_id'),
        targetPath: requirePath(request.target_path, 'the directory to mount at'),
        readOnly: request.read_only,
        mountFlags: request.mount_flags,
      });
      return {};
    },

    async UnmountVolume(request, call) {
      const targetPaths = await admin.unmountVolume(call, {
        volumeId: requireText(request.volume_id, 'volume_id'),
        targetPath: optionalPath(request.target_path, 'the directory to unmount'),
      });
      return { target_paths: targetPaths };
    },

    async ExpandVolume(request, call) {
      const { facts, atNextMount } = await admin.expandVolume(call, {
        volumeId: requireText(request.volume_id, 'volume_id'),
        sizeBytes: requireSize(request.size_bytes),
      });
      return { volume: volumeMessage(facts), at_next_mount: atNextMount };
    },
  };
}

function snapshotCalls({
  administration: admin,
  volumes,
}: AdminFront): Implementation<'loopcsi.v1.Admin'> {
  return {
    async ListSnapshots(request, call) {
      const { source_volume_id: sourceVolumeId, pool } = request;
      const page = { ...parsePage(request), pool, sourceVolumeId };
      const { entries, nextToken } = await admin.listSnapshots(call, page);
      return { snapshots: entries.map(snapshotMessage), next_token: nextToken };
    },

    async GetSnapshot(request, call) {
      const idOrName = requireText(request.snapshot_id, 'snapshot_id');
      return { snapshot: snapshotMessage(await admin.getSnapshot(call, idOrName)) };
    },

    async *WatchSnapshot(request, call) {
      const snapshotId = requireText(request.snapshot_id, 'snapshot_id');
      for await (const progress of volumes.watchSnapshot(call, snapshotId)) {
        const { doneBytes, totalBytes, ready, error } = progress;
        yield { done_bytes: doneBytes, total_bytes: totalBytes, ready, error };
      }
    },
  };
}

function requirePoolName(name: string): string {
  requireText(name, 'name');
  if (poolNameForm.test(name)) return name;
  throw new VolumeError(
    'invalid',
    `'${name.slice(0, 64)}' is no name of a pool; take lower-case letters, digits and '-'`,
  );
}

function embeddedBytesOf(bytes: bigint): bigint | undefined {
  if (bytes < 0n) throw new VolumeError('invalid', 'embedded_size_bytes must not be negative');
  return bytes === 0n ? undefined : bytes;
}

function requireSize(bytes: bigint): bigint {
  if (bytes > 0n) return bytes;
  throw new VolumeError('invalid', 'size_bytes is missing: say how large it must be');
}
