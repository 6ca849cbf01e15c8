/** Calls as a container platform makes them. The test node records how to undo each of them. */
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { groupIdFor, nodeTagOf, snapshotIdFor, volumeIdFor } from '../../src/ids.ts';
import { MiB } from '../../src/units.ts';
import { scaledMs } from '../helpers/slowness.ts';
import { blockCapability, type Capability, mountCapability, type TestNode } from './test-node.ts';

const tag = nodeTagOf('test-node');

export const volumeIdOf = (name: string): string => volumeIdFor(name, tag);
export const snapshotIdOf = (name: string): string => snapshotIdFor(name, tag);
export const groupIdOf = (name: string): string => groupIdFor(name, tag);

export type Kind = 'ext4' | 'xfs' | 'btrfs' | 'block';

export const sizes: Readonly<Record<Kind, bigint>> = {
  ext4: 32n * MiB,
  xfs: 300n * MiB,
  btrfs: 128n * MiB,
  block: 16n * MiB,
};

export function capabilityFor(kind: Kind): Capability {
  return kind === 'block' ? blockCapability : mountCapability(kind);
}

export const defaultRetryMs = scaledMs(30_000);
/** How long calls are retried; 0 while a test expects a refusal. */
export const retryLimit = { boundMs: defaultRetryMs };

/** Retries a call while another one of the same volume is in progress (ABORTED), as sidecars do. */
export async function retryWhileAborted<T>(call: () => Promise<T>): Promise<T> {
  for (const giveUpAt = Date.now() + retryLimit.boundMs; ; ) {
    try {
      return await call();
    } catch (error) {
      const isBusy = (error as { code?: unknown }).code === status.ABORTED;
      if (!isBusy || Date.now() > giveUpAt) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

export interface CreateOptions {
  readonly kind: Kind;
  readonly sizeBytes?: bigint;
  readonly parameters?: Readonly<Record<string, string>>;
  readonly snapshot?: string;
  readonly volume?: string;
}

export async function create(testNode: TestNode, name: string, options: CreateOptions) {
  const { kind, parameters = {}, snapshot, volume } = options;
  const sizeBytes = options.sizeBytes ?? sizes[kind];
  recordDelete(testNode, name);
  return retryWhileAborted(() =>
    testNode.controller.CreateVolume({
      name,
      capacity_range: { required_bytes: sizeBytes },
      volume_capabilities: [capabilityFor(kind)],
      parameters,
      ...(snapshot === undefined
        ? {}
        : {
            volume_content_source: {
              type: 'snapshot',
              snapshot: { snapshot_id: snapshotIdOf(snapshot) },
            },
          }),
      ...(volume === undefined
        ? {}
        : { volume_content_source: { type: 'volume', volume: { volume_id: volumeIdOf(volume) } } }),
    }),
  );
}

/** Imports a directory or an image. The answer is the same whether or not an earlier call created the volume. */
export async function importPath(
  testNode: TestNode,
  name: string,
  { path, kind }: { readonly path: string; readonly kind?: Kind },
) {
  recordDelete(testNode, name);
  const isBlock = kind === 'block';
  const { directory, fs_type, size_bytes } = await retryWhileAborted(() =>
    testNode.admin.ImportVolume({
      name,
      source_path: path,
      block: isBlock,
      fs_type: isBlock ? '' : (kind ?? ''),
    }),
  );
  return { directory, fs_type, size_bytes };
}

/** The server accepts messages up to 1 MiB. */
const chunkBytes = 256 * 1024;

/** Sends an image. A stream cannot be repeated, so the volume of an earlier call is the answer. */
export async function importStream(testNode: TestNode, name: string, path: string) {
  recordDelete(testNode, name);
  const data = await readFile(path);
  const requests = async function* () {
    const image_bytes = BigInt(data.length);
    yield { step: 'start', start: { request: { name }, image_bytes } } as const;
    for (let at = 0; at < data.length; at += chunkBytes) {
      const chunk = { offset: BigInt(at), data: data.subarray(at, at + chunkBytes) };
      yield { step: 'data', data: chunk } as const;
    }
    yield { step: 'end', end: { image_bytes } } as const;
  };
  await retryWhileAborted(() => testNode.admin.ImportStream(requests())).catch((error: unknown) => {
    if (!isCode(error, status.ALREADY_EXISTS)) throw error;
  });
  return name;
}

function isCode(error: unknown, code: status): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

function recordDelete(testNode: TestNode, name: string): void {
  const volume_id = volumeIdOf(name);
  testNode.recordUndo(() =>
    retryWhileAborted(() => testNode.controller.DeleteVolume({ volume_id })),
  );
}

export async function destroy(testNode: TestNode, name: string) {
  return retryWhileAborted(() => testNode.controller.DeleteVolume({ volume_id: volumeIdOf(name) }));
}

export async function stage(
  testNode: TestNode,
  name: string,
  kind: Kind,
  mountFlags: readonly string[] = [],
) {
  const volume_id = volumeIdOf(name);
  const staging_target_path = await testNode.stagingPathOf(name);
  testNode.recordUndo(() => unstage(testNode, name));
  return retryWhileAborted(() =>
    testNode.node.NodeStageVolume({
      volume_id,
      staging_target_path,
      volume_capability: kind === 'block' ? blockCapability : mountCapability(kind, mountFlags),
    }),
  );
}

export async function unstage(testNode: TestNode, name: string) {
  const staging_target_path = await testNode.stagingPathOf(name);
  return retryWhileAborted(() =>
    testNode.node.NodeUnstageVolume({ volume_id: volumeIdOf(name), staging_target_path }),
  );
}

export interface PublishOptions {
  readonly kind: Kind;
  readonly readOnly?: boolean;
  readonly target?: string;
  readonly staged?: boolean;
}

/** What the kubelet says about the pod that a volume is published for (podInfoOnMount). */
const podOf = (name: string): Readonly<Record<string, string>> => ({
  'csi.storage.k8s.io/pod.namespace': 'default',
  'csi.storage.k8s.io/pod.name': name,
  'csi.storage.k8s.io/pod.uid': '0c7f5d8e-8a51-4c0e-9d7b-3f0f5c3f0b1a',
});

export const targetOf = (testNode: TestNode, name: string): string =>
  testNode.pathOf('targets', name);

export async function publish(testNode: TestNode, name: string, options: PublishOptions) {
  const { kind, readOnly = false, target = name, staged = true } = options;
  const volume_id = volumeIdOf(name);
  const target_path = targetOf(testNode, target);
  const staging_target_path = staged ? await testNode.stagingPathOf(name) : '';
  testNode.recordUndo(() => unpublish(testNode, name, target));
  return retryWhileAborted(() =>
    testNode.node.NodePublishVolume({
      volume_id,
      staging_target_path,
      target_path,
      volume_capability: capabilityFor(kind),
      readonly: readOnly,
      volume_context: podOf(target),
    }),
  );
}

export async function unpublish(testNode: TestNode, name: string, target = name) {
  const target_path = targetOf(testNode, target);
  return retryWhileAborted(() =>
    testNode.node.NodeUnpublishVolume({ volume_id: volumeIdOf(name), target_path }),
  );
}

const inlineId = (name: string): string => `csi-${'0123456789abcdef'.repeat(3)}-${name}`;

/** Publishes an inline volume as the kubelet does. */
export async function publishInline(testNode: TestNode, name: string) {
  const target_path = targetOf(testNode, name);
  testNode.recordUndo(() => unpublishInline(testNode, name));
  return retryWhileAborted(() =>
    testNode.node.NodePublishVolume({
      volume_id: inlineId(name),
      target_path,
      volume_capability: mountCapability(),
      volume_context: { ...podOf(name), 'csi.storage.k8s.io/ephemeral': 'true', size: '32Mi' },
    }),
  );
}

export async function unpublishInline(testNode: TestNode, name: string) {
  const target_path = targetOf(testNode, name);
  return retryWhileAborted(() =>
    testNode.node.NodeUnpublishVolume({ volume_id: inlineId(name), target_path }),
  );
}

export async function modify(
  testNode: TestNode,
  name: string,
  mutable: Readonly<Record<string, string>>,
) {
  return retryWhileAborted(() =>
    testNode.controller.ControllerModifyVolume({
      volume_id: volumeIdOf(name),
      mutable_parameters: mutable,
    }),
  );
}

export async function expand(testNode: TestNode, name: string, sizeBytes: bigint) {
  return retryWhileAborted(() =>
    testNode.controller.ControllerExpandVolume({
      volume_id: volumeIdOf(name),
      capacity_range: { required_bytes: sizeBytes },
    }),
  );
}

export async function nodeExpand(testNode: TestNode, name: string, sizeBytes: bigint) {
  const volume_path = await testNode.stagingPathOf(name);
  return retryWhileAborted(() =>
    testNode.node.NodeExpandVolume({
      volume_id: volumeIdOf(name),
      volume_path,
      capacity_range: { required_bytes: sizeBytes },
    }),
  );
}

/** Repeats the call until the snapshot is ready, as the snapshotter does. */
export async function snapshot(
  testNode: TestNode,
  name: string,
  volume: string,
  parameters: Readonly<Record<string, string>> = {},
) {
  const snapshot_id = snapshotIdOf(name);
  testNode.recordUndo(() =>
    retryWhileAborted(() => testNode.controller.DeleteSnapshot({ snapshot_id })),
  );
  const source_volume_id = volumeIdOf(volume);
  for (const giveUpAt = Date.now() + scaledMs(120_000); ; ) {
    const answer = await retryWhileAborted(() =>
      testNode.controller.CreateSnapshot({ name, source_volume_id, parameters }),
    );
    if (answer.snapshot?.ready_to_use === true) return answer;
    if (Date.now() > giveUpAt) throw new Error(`snapshot ${name} does not become ready`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export async function deleteSnapshot(testNode: TestNode, name: string) {
  return retryWhileAborted(() =>
    testNode.controller.DeleteSnapshot({ snapshot_id: snapshotIdOf(name) }),
  );
}

const memberIds = (name: string, volumes: readonly string[]): readonly string[] =>
  volumes.map((volume) => snapshotIdFor(`${name}/${volumeIdOf(volume)}`, tag));

export async function groupSnapshot(testNode: TestNode, name: string, volumes: readonly string[]) {
  testNode.recordUndo(() => deleteGroup(testNode, name, volumes));
  return retryWhileAborted(() =>
    testNode.groups.CreateVolumeGroupSnapshot({ name, source_volume_ids: volumes.map(volumeIdOf) }),
  );
}

export async function deleteGroup(testNode: TestNode, name: string, volumes: readonly string[]) {
  return retryWhileAborted(() =>
    testNode.groups.DeleteVolumeGroupSnapshot({
      group_snapshot_id: groupIdOf(name),
      snapshot_ids: memberIds(name, volumes),
    }),
  );
}

/** Writes and syncs a text file in the volume that is staged or published at `directory`. */
export async function writeSynced(directory: string, file: string, text: string): Promise<void> {
  const handle = await open(join(directory, file), 'w');
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Throws if the file does not contain exactly that text. */
export async function requireText(directory: string, file: string, text: string): Promise<void> {
  const found = await readFile(join(directory, file), 'utf8');
  if (found !== text)
    throw new Error(`${join(directory, file)} contains '${found}' instead of '${text}'`);
}
