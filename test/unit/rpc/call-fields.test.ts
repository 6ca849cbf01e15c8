import test, { type ExecutionContext } from 'ava';
import { callFields } from '../../../src/rpc/call-fields.ts';
import { healthMessage } from '../../../src/rpc/messages.ts';
import type { Volumes } from '../../../src/volumes/api.ts';
import { serveFake } from '../../helpers/csi-server.ts';

const volumes: Pick<Volumes, 'ownerFieldsOf'> = {
  ownerFieldsOf: ({ volumeId, snapshotId }): Readonly<Record<string, string>> => {
    if (volumeId === 'v.0123abcd') return { namespace: 'default', claim: 'data' };
    if (snapshotId === undefined) return {};
    return { namespace: 'default', claim: 'data', volumeSnapshot: 'monday' };
  },
};
const claim = {
  'csi.storage.k8s.io/pvc/namespace': 'default',
  'csi.storage.k8s.io/pvc/name': 'data',
};

const cases = [
  {
    name: 'a create names the claim of its parameters',
    request: { name: 'pvc-1', parameters: { pool: 'fast', ...claim } },
    fields: { name: 'pvc-1', namespace: 'default', claim: 'data' },
  },
  {
    name: 'a stage names the claim of the record',
    request: { volume_id: 'v.0123abcd' },
    fields: { volumeId: 'v.0123abcd', namespace: 'default', claim: 'data' },
  },
  {
    name: 'a publish also names its pod',
    request: {
      volume_id: 'v.0123abcd',
      volume_context: {
        'csi.storage.k8s.io/pod.namespace': 'default',
        'csi.storage.k8s.io/pod.name': 'web-0',
      },
    },
    fields: { volumeId: 'v.0123abcd', namespace: 'default', claim: 'data', pod: 'web-0' },
  },
  {
    name: 'a snapshot names its VolumeSnapshot and the claim of its source',
    request: {
      name: 'snapshot-1',
      source_volume_id: 'v.0123abcd',
      parameters: {
        'csi.storage.k8s.io/volumesnapshot/namespace': 'default',
        'csi.storage.k8s.io/volumesnapshot/name': 'monday',
      },
    },
    fields: {
      name: 'snapshot-1',
      sourceVolumeId: 'v.0123abcd',
      namespace: 'default',
      claim: 'data',
      volumeSnapshot: 'monday',
    },
  },
  {
    name: 'the delete of a snapshot too',
    request: { snapshot_id: 's.0123abcd' },
    fields: {
      snapshotId: 's.0123abcd',
      namespace: 'default',
      claim: 'data',
      volumeSnapshot: 'monday',
    },
  },
  {
    name: 'an id is truncated to the length that CSI allows',
    request: { volume_id: 'v'.repeat(4_000) },
    fields: { volumeId: 'v'.repeat(128) },
  },
  { name: 'a call about nothing', request: { volume_id: '', parameters: {} }, fields: {} },
] as const;
for (const { name, request, fields } of cases) {
  test(`log fields: ${name}`, (t) => {
    t.deepEqual(callFields(request, volumes), fields);
  });
}

/** The fields of the line with which a call ended. */
async function endOf(t: ExecutionContext, stage: boolean) {
  const { node, controller, lines } = await serveFake(t, { volumes });
  const volume_capability = {
    access_type: 'mount' as const,
    mount: { fs_type: '', mount_flags: [], volume_mount_group: '' },
    access_mode: { mode: 'SINGLE_NODE_WRITER' as const },
  };
  await (stage
    ? node.NodeStageVolume({
        volume_id: 'v.0123abcd',
        staging_target_path: '/staging',
        volume_capability,
      })
    : controller.CreateVolume({
        name: 'pvc-1',
        volume_capabilities: [volume_capability],
        parameters: claim,
      }));
  return lines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .find(({ msg }) => msg === 'call ended');
}

for (const stage of [true, false]) {
  test(`one search finds the end of a ${stage ? 'stage' : 'create'} call by its claim`, async (t) => {
    t.like(await endOf(t, stage), { namespace: 'default', claim: 'data' });
  });
}

test('health messages name the claim once, and nothing for a volume without one', (t) => {
  const conditions = [
    { status: 'DEGRADED', reason: 'FilesystemErrors', message: 'first' },
    { status: 'DEGRADED', reason: 'FilesystemErrors', message: 'second' },
    { status: 'DATA_LOSS', reason: 'ImageShort', message: 'third' },
  ] as const;
  const owner = { namespace: 'default', claim: 'data', persistentVolume: 'pvc-1', pod: '' };
  t.deepEqual(
    healthMessage('v.0123abcd', conditions, owner).health_statuses.map(({ message }) => message),
    ['claim default/data: first; second', 'claim default/data: third'],
  );
  t.deepEqual(
    healthMessage('v.0123abcd', conditions, undefined).health_statuses.map(
      ({ message }) => message,
    ),
    ['first; second', 'third'],
  );
});
