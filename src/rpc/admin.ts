import type { MethodName } from '../csi/rpc-types.ts';
import { VolumeError } from '../errors.ts';
import { poolNamePattern } from '../ids.ts';
import type { Administration } from '../volumes/admin/calls.ts';
import type { Volumes } from '../volumes/api.ts';
import {
  adminGroupMessage,
  adminSnapshotMessage,
  adminVolumeMessage,
  checkMessage,
  copyMessage,
  poolMessage,
  usageMessage,
  userMessages,
} from './admin-messages.ts';
import type { LogClass } from './advertised.ts';
import type { ServerHooks } from './call.ts';
import { makeService, type Service } from './grpc-server.ts';
import { type Implementation, makeHandlers } from './handlers.ts';
import { transferMethods } from './transfer.ts';
import { optionalPath, parsePage, requirePath, requireText } from './validate.ts';

const logClasses = {
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
  TrimVolume: 'change',
  ImportVolume: 'change',
  ImportStream: 'change',
  ExportImage: 'change',
  ListSnapshots: 'read',
  GetSnapshot: 'read',
  WatchSnapshot: 'read',
  ListGroupSnapshots: 'read',
  MeasureVolumes: 'polling',
  GetProgress: 'polling',
  ListCopies: 'read',
  ListLeftovers: 'read',
  RemoveLeftovers: 'change',
  Doctor: 'read',
} as const satisfies { readonly [M in MethodName<'loopcsi.v1.Admin'>]: LogClass };

/** Dependencies of the methods of Admin. */
export interface AdminContext {
  readonly administration: Administration;
  readonly volumes: Volumes;
}

/**
 * Creates the service `loopcsi.v1.Admin`: the calls that the command line needs and CSI lacks. It is served on the CSI
 * socket.
 */
export function adminService(context: AdminContext, hooks: ServerHooks): Service {
  const calls = new Map(
    Object.entries<LogClass>(logClasses).map(([rpc, logClass]) => [
      rpc,
      { logClass, offered: true },
    ]),
  );
  return makeService(
    'loopcsi.v1.Admin',
    makeHandlers('loopcsi.v1.Admin', adminMethods(context), hooks, {
      calls,
      checksSizeLimits: false,
    }),
  );
}

/** Implements the service `Admin` of csi-proto/loopcsi.proto. */
export function adminMethods(context: AdminContext): Implementation<'loopcsi.v1.Admin'> {
  const { administration } = context;
  return {
    ...poolMethods(administration),
    ...volumeMethods(administration),
    ...maintenanceMethods(administration),
    ...transferMethods(administration),
    ...snapshotMethods(context),
    ...diagnosticMethods(administration),
  };
}

function poolMethods(admin: Administration): Implementation<'loopcsi.v1.Admin'> {
  return {
    async ListPools() {
      return { pools: (await admin.listPools()).map(poolMessage) };
    },

    async InitPool(request) {
      const { pool, existed } = await admin.initPool({
        name: requirePoolName(request.name),
        path: optionalPath(request.path, 'path'),
        embeddedBytes: embeddedBytesOf(request.embedded_size_bytes),
        force: request.force,
      });
      return { pool: poolMessage(pool), existed };
    },

    async GrowPool(request) {
      const pool = await admin.growPool({
        name: requirePoolName(request.name),
        sizeBytes: requireSize(request.size_bytes),
      });
      return { pool: poolMessage(pool) };
    },

    async AdoptPool(request) {
      return { pool: poolMessage(await admin.adoptPool(requirePoolName(request.name))) };
    },

    async ForgetPool(request) {
      const { path, uuid, volumeIds } = await admin.forgetPool({
        name: requirePoolName(request.name),
        path: optionalPath(request.path, 'path'),
        uuid: request.uuid,
      });
      return { path, uuid, volume_ids: [...volumeIds] };
    },

    async RecoverPool(request) {
      return { pool: poolMessage(await admin.recoverPool(requirePoolName(request.name))) };
    },
  };
}

function volumeMethods(admin: Administration): Implementation<'loopcsi.v1.Admin'> {
  return {
    async ListVolumes(request) {
      const page = { ...parsePage(request), pool: request.pool };
      const { entries, nextToken } = await admin.listVolumes(page);
      const volumes = request.with_filesystem ? await admin.withFilesystems(entries) : entries;
      return { volumes: volumes.map(adminVolumeMessage), next_token: nextToken };
    },

    async GetVolume(request) {
      const idOrName = requireText(request.volume_id, 'volume_id');
      const facts = await admin.getVolume(idOrName);
      const [volume = facts] = request.with_filesystem ? await admin.withFilesystems([facts]) : [];
      return {
        volume: adminVolumeMessage(volume),
        users: userMessages(await admin.usersOf(facts)),
      };
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
      return { volume: adminVolumeMessage(facts), at_next_mount: atNextMount };
    },
  };
}

function maintenanceMethods(admin: Administration): Implementation<'loopcsi.v1.Admin'> {
  return {
    async ListLeftovers() {
      return { leftovers: [...(await admin.listLeftovers())] };
    },

    async RemoveLeftovers(request) {
      return { results: [...(await admin.removeLeftovers(request.paths))] };
    },

    async TrimVolume(request, call) {
      const report = await admin.trimVolume(call, requireText(request.volume_id, 'volume_id'));
      return {
        allocated_before_bytes: report.allocatedBeforeBytes,
        allocated_after_bytes: report.allocatedAfterBytes,
        discarded_bytes: report.discardedBytes,
        interrupted: report.isInterrupted,
        mounted_privately: report.isMountedPrivately,
      };
    },
  };
}

function snapshotMethods({
  administration: admin,
  volumes,
}: AdminContext): Implementation<'loopcsi.v1.Admin'> {
  return {
    async ListSnapshots(request) {
      const { source_volume_id: sourceVolumeId, pool } = request;
      const page = { ...parsePage(request), pool, sourceVolumeId };
      const { entries, nextToken } = await admin.listSnapshots(page);
      return { snapshots: entries.map(adminSnapshotMessage), next_token: nextToken };
    },

    async GetSnapshot(request) {
      const idOrName = requireText(request.snapshot_id, 'snapshot_id');
      return { snapshot: adminSnapshotMessage(await admin.getSnapshot(idOrName)) };
    },

    async ListGroupSnapshots() {
      return { group_snapshots: (await admin.listGroupSnapshots()).map(adminGroupMessage) };
    },

    async ListCopies() {
      return { copies: volumes.runningCopies().map(copyMessage) };
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

function diagnosticMethods(admin: Administration): Implementation<'loopcsi.v1.Admin'> {
  return {
    async GetProgress(request) {
      const { volume_name: volume, snapshot_name: snapshot } = request;
      const target =
        volume === ''
          ? ({ kind: 'snapshot', name: requireText(snapshot, 'snapshot_name') } as const)
          : ({ kind: 'volume', name: volume } as const);
      const progress = await admin.progress(target);
      return {
        done_bytes: progress?.doneBytes ?? 0n,
        total_bytes: progress?.totalBytes ?? 0n,
        volume_id: (volume === '' ? undefined : admin.volumeBeingCreated(volume)) ?? '',
      };
    },

    async MeasureVolumes(request) {
      const { volumes, measuredMs } = await admin.measureVolumes(request.pool);
      return { volumes: volumes.map(usageMessage), measured_ms: measuredMs };
    },

    async Doctor() {
      return { checks: (await admin.diagnose()).map(checkMessage) };
    },
  };
}

function requirePoolName(name: string): string {
  requireText(name, 'name');
  if (poolNamePattern.test(name)) return name;
  throw new VolumeError(
    'invalid',
    `'${name.slice(0, 64)}' is not a pool name; use lower-case letters, digits and '-'`,
  );
}

function embeddedBytesOf(bytes: bigint): bigint | undefined {
  if (bytes < 0n) throw new VolumeError('invalid', 'embedded_size_bytes must not be negative');
  return bytes === 0n ? undefined : bytes;
}

function requireSize(bytes: bigint): bigint {
  if (bytes > 0n) return bytes;
  throw new VolumeError('invalid', `size_bytes ${bytes} must be greater than 0`);
}
