import test from 'ava';
import type { Partially } from '../../../src/csi/rpc-types.ts';
import type {
  CreateVolumeRequest,
  NodePublishVolumeRequest,
  NodeStageVolumeRequest,
  VolumeCapability,
} from '../../../src/csi/types.ts';
import { VolumeError } from '../../../src/errors.ts';
import { requirePath } from '../../../src/rpc/validate.ts';
import { codeOf, serveFake } from '../../helpers/csi-server.ts';

const mount: VolumeCapability = {
  access_mode: { mode: 'SINGLE_NODE_WRITER' },
  access_type: 'mount',
  mount: { fs_type: '', mount_flags: [], volume_mount_group: '' },
};
const block: VolumeCapability = {
  access_mode: { mode: 'SINGLE_NODE_WRITER' },
  access_type: 'block',
  block: {},
};
const withMode = (mode: string | number): VolumeCapability => ({
  ...mount,
  // A number is an enum value of a newer interface.
  access_mode: { mode: mode as 'SINGLE_NODE_WRITER' },
});
const withFsType = (fsType: string, flags: readonly string[] = []): VolumeCapability => ({
  ...mount,
  access_type: 'mount',
  mount: { fs_type: fsType, mount_flags: flags, volume_mount_group: '' },
});

type Create = Partially<CreateVolumeRequest>;
const create: Create = { name: 'pvc-1', volume_capabilities: [mount] };
const thisNode = { segments: { 'topology.loopcsi.io/node': 'node-a' } };
const there = { segments: { 'topology.loopcsi.io/node': 'node-b' } };

const creations: readonly { name: string; request: Create; code: string; says?: RegExp }[] = [
  { name: 'only the required fields', request: create, code: 'OK' },
  { name: 'no name', request: { ...create, name: '' }, code: 'INVALID_ARGUMENT', says: /name/ },
  { name: 'a name of 128 bytes', request: { ...create, name: 'n'.repeat(128) }, code: 'OK' },
  {
    name: 'a name of 129 bytes',
    request: { ...create, name: 'n'.repeat(129) },
    code: 'INVALID_ARGUMENT',
    says: /129 bytes.*128/,
  },
  {
    name: 'a name of 10,000 characters',
    request: { ...create, name: 'n'.repeat(10_000) },
    code: 'INVALID_ARGUMENT',
  },
  {
    name: 'bytes count, not characters',
    request: { ...create, name: 'ä'.repeat(65) },
    code: 'INVALID_ARGUMENT',
    says: /130 bytes/,
  },
  {
    name: 'slashes, dots, spaces and emoji are legal in a name',
    request: { ...create, name: '../a b/💾' },
    code: 'OK',
  },
  {
    name: 'tab and newline are legal in a name',
    request: { ...create, name: 'a\tb\n' },
    code: 'OK',
  },
  {
    name: 'NUL in a name',
    request: { ...create, name: 'a\0b' },
    code: 'INVALID_ARGUMENT',
    says: /control character/,
  },
  { name: 'U+0085 in a name', request: { ...create, name: 'a\u0085b' }, code: 'INVALID_ARGUMENT' },
  {
    name: 'no capabilities',
    request: { name: 'a' },
    code: 'INVALID_ARGUMENT',
    says: /volume_capabilities/,
  },
  {
    name: 'a capability without access type',
    request: { ...create, volume_capabilities: [{ access_mode: { mode: 'SINGLE_NODE_WRITER' } }] },
    code: 'INVALID_ARGUMENT',
    says: /neither block nor mount/,
  },
  {
    name: 'a capability without access mode',
    request: { ...create, volume_capabilities: [{ ...mount, access_mode: null }] },
    code: 'INVALID_ARGUMENT',
    says: /UNKNOWN is not known/,
  },
  {
    name: 'an access mode without a name',
    request: { ...create, volume_capabilities: [withMode(99)] },
    code: 'INVALID_ARGUMENT',
    says: /99 is not known/,
  },
  {
    name: 'several writers on several nodes',
    request: { ...create, volume_capabilities: [withMode('MULTI_NODE_MULTI_WRITER')] },
    code: 'INVALID_ARGUMENT',
    says: /needs a volume that several nodes can use/,
  },
  {
    name: 'one writer on several nodes',
    request: { ...create, volume_capabilities: [withMode('MULTI_NODE_SINGLE_WRITER')] },
    code: 'INVALID_ARGUMENT',
  },
  {
    name: 'readers on several nodes',
    request: { ...create, volume_capabilities: [withMode('MULTI_NODE_READER_ONLY')] },
    code: 'OK',
  },
  {
    name: 'an unknown filesystem',
    request: { ...create, volume_capabilities: [withFsType('ntfs')] },
    code: 'INVALID_ARGUMENT',
    says: /'ntfs' is not offered; use ext4, xfs, btrfs/,
  },
  {
    name: 'two filesystems',
    request: { ...create, volume_capabilities: [withFsType('ext4'), withFsType('xfs')] },
    code: 'INVALID_ARGUMENT',
    says: /ext4 and xfs/,
  },
  {
    name: 'one capability with a filesystem, one without',
    request: { ...create, volume_capabilities: [mount, withFsType('xfs')] },
    code: 'OK',
  },
  {
    name: 'mount and block',
    request: { ...create, volume_capabilities: [mount, block] },
    code: 'INVALID_ARGUMENT',
    says: /both block and mount/,
  },
  {
    name: 'a volume mount group',
    request: {
      ...create,
      volume_capabilities: [
        {
          ...mount,
          access_type: 'mount',
          mount: { fs_type: '', mount_flags: [], volume_mount_group: '1000' },
        },
      ],
    },
    code: 'INVALID_ARGUMENT',
    says: /VOLUME_MOUNT_GROUP/,
  },
  {
    name: 'mount flags of more than 4 KiB',
    request: {
      ...create,
      volume_capabilities: [
        withFsType(
          '',
          Array.from({ length: 41 }, () => 'f'.repeat(100)),
        ),
      ],
    },
    code: 'INVALID_ARGUMENT',
    says: /mount_flags has 4100 bytes/,
  },
  {
    name: 'one mount flag longer than other strings',
    request: { ...create, volume_capabilities: [withFsType('', ['f'.repeat(200)])] },
    code: 'OK',
  },
  {
    name: 'a negative size',
    request: { ...create, capacity_range: { required_bytes: -1n } },
    code: 'INVALID_ARGUMENT',
    says: /must not be negative/,
  },
  {
    name: 'a negative limit',
    request: { ...create, capacity_range: { limit_bytes: -(2n ** 63n) } },
    code: 'INVALID_ARGUMENT',
  },
  {
    name: 'a limit below what is required',
    request: { ...create, capacity_range: { required_bytes: 2n, limit_bytes: 1n } },
    code: 'OUT_OF_RANGE',
  },
  {
    name: 'a limit alone',
    request: { ...create, capacity_range: { limit_bytes: 1n << 30n } },
    code: 'OK',
  },
  {
    name: 'an unknown parameter',
    request: { ...create, parameters: { pol: 'a' } },
    code: 'INVALID_ARGUMENT',
    says: /'pol' is not known; known keys: pool/,
  },
  {
    name: "Kubernetes' own parameters",
    request: { ...create, parameters: { 'csi.storage.k8s.io/pvc/name': 'a' } },
    code: 'OK',
  },
  {
    name: 'a bad mutable parameter',
    request: { ...create, mutable_parameters: { trim: 'never' } },
    code: 'INVALID_ARGUMENT',
    says: /'never' is not allowed/,
  },
  {
    name: 'a parameter that cannot be changed as a mutable one',
    request: { ...create, mutable_parameters: { pool: 'a' } },
    code: 'INVALID_ARGUMENT',
    says: /'pool' can only be set when a volume is created/,
  },
  {
    name: 'parameters of more than 4 KiB',
    request: { ...create, parameters: { 'csi.storage.k8s.io/x': 'v'.repeat(4096) } },
    code: 'INVALID_ARGUMENT',
    says: /parameters has 4116 bytes/,
  },
  {
    name: 'mkfs options for a block volume',
    request: { ...create, volume_capabilities: [block], parameters: { mkfsOptions: '-L data' } },
    code: 'INVALID_ARGUMENT',
  },
  {
    name: 'a source without a type',
    request: { ...create, volume_content_source: {} },
    code: 'INVALID_ARGUMENT',
  },
  {
    name: 'a control character in a mount flag',
    request: { ...create, volume_capabilities: [withFsType('', ['noatime', 'no\u0007exec'])] },
    code: 'INVALID_ARGUMENT',
    says: /control character/,
  },
  {
    name: 'a source without id',
    request: { ...create, volume_content_source: { type: 'snapshot', snapshot: {} } },
    code: 'INVALID_ARGUMENT',
    says: /snapshot_id is missing/,
  },
  {
    name: 'no topology',
    request: { ...create, accessibility_requirements: { requisite: [], preferred: [] } },
    code: 'OK',
  },
  {
    name: 'this node among others',
    request: {
      ...create,
      accessibility_requirements: { requisite: [there, thisNode], preferred: [there] },
    },
    code: 'OK',
  },
  {
    name: 'another node',
    request: { ...create, accessibility_requirements: { requisite: [there], preferred: [there] } },
    code: 'RESOURCE_EXHAUSTED',
    says: /node-b.*node 'node-a'/,
  },
  {
    name: 'this node, but in a zone',
    request: {
      ...create,
      accessibility_requirements: {
        requisite: [{ segments: { ...thisNode.segments, 'topology.kubernetes.io/zone': 'a' } }],
      },
    },
    code: 'RESOURCE_EXHAUSTED',
  },
];
for (const { name, request, code, says } of creations) {
  test(`CreateVolume: ${name}`, async (t) => {
    const { controller, calls } = await serveFake(t);
    const call = controller.CreateVolume(request);
    const message = await call.then(
      () => '',
      (error: unknown) => String(error),
    );
    t.is(await codeOf(call), code, message);
    if (says !== undefined) t.regex(message, says);
    // An invalid request does not reach the domain.
    t.is(calls.length, code === 'OK' ? 1 : 0);
  });
}

const stage: Partially<NodeStageVolumeRequest> = {
  volume_id: 'pvc-1.0123abcd',
  staging_target_path: '/var/lib/kubelet/plugins/x/globalmount',
  volume_capability: mount,
};
const publish: Partially<NodePublishVolumeRequest> = {
  ...stage,
  target_path: '/var/lib/kubelet/pods/1/volumes/x/mount',
};

/** `queryCode`: the code of calls that only query the path, where it differs. */
const paths: readonly { name: string; path: string; code: string; queryCode?: string }[] = [
  { name: 'absolute', path: '/a/b', code: 'OK' },
  { name: 'with a name of 255 bytes', path: `/${'n'.repeat(255)}`, code: 'OK' },
  { name: 'with spaces, quotes and a newline', path: `/a "b'\n$(c)`, code: 'OK' },
  { name: 'missing', path: '', code: 'INVALID_ARGUMENT' },
  { name: 'relative', path: 'a/b', code: 'INVALID_ARGUMENT', queryCode: 'NOT_FOUND' },
  { name: 'the root', path: '/', code: 'INVALID_ARGUMENT' },
  { name: "with '..'", path: '/a/../etc', code: 'INVALID_ARGUMENT' },
  { name: "ending in '..'", path: '/a/..', code: 'INVALID_ARGUMENT' },
  { name: "with '.'", path: '/a/./b', code: 'INVALID_ARGUMENT' },
  { name: 'with an empty part', path: '/a//b', code: 'INVALID_ARGUMENT' },
  { name: 'ending in a slash', path: '/a/', code: 'INVALID_ARGUMENT' },
  { name: 'with NUL', path: '/a\0/b', code: 'INVALID_ARGUMENT' },
  { name: 'with a name of 256 bytes', path: `/${'n'.repeat(256)}`, code: 'INVALID_ARGUMENT' },
  { name: 'of more than PATH_MAX', path: '/abc'.repeat(1024), code: 'INVALID_ARGUMENT' },
  { name: 'like an option', path: '--help', code: 'INVALID_ARGUMENT', queryCode: 'NOT_FOUND' },
];
for (const { name, path, code, queryCode = code } of paths) {
  test(`a path ${name}`, async (t) => {
    const { node } = await serveFake(t);
    const volume = { volume_id: 'pvc-1.0123abcd' };
    const results = {
      stage: await codeOf(node.NodeStageVolume({ ...stage, staging_target_path: path })),
      unstage: await codeOf(node.NodeUnstageVolume({ ...volume, staging_target_path: path })),
      publish: await codeOf(node.NodePublishVolume({ ...publish, target_path: path })),
      unpublish: await codeOf(node.NodeUnpublishVolume({ ...volume, target_path: path })),
      stats: await codeOf(node.NodeGetVolumeStats({ ...volume, volume_path: path })),
      expand: await codeOf(node.NodeExpandVolume({ ...volume, volume_path: path })),
    };
    t.deepEqual(results, {
      stage: code,
      unstage: code,
      publish: code,
      unpublish: code,
      stats: queryCode,
      expand: queryCode,
    });
  });
}

test('requirePath refuses NUL itself, without the size limits', (t) => {
  t.is(requirePath('/a/b', 'path'), '/a/b');
  t.throws(() => requirePath('/a\0/b', 'path'), { instanceOf: VolumeError });
  t.throws(() => requirePath('/', 'path'), { message: /root directory/ });
});

test('every call for a volume requires its id', async (t) => {
  const { controller, node, calls } = await serveFake(t);
  const path = '/a';
  const capacity_range = { required_bytes: 1n };
  const missing = [
    controller.DeleteVolume({}),
    controller.ControllerGetVolume({}),
    controller.ControllerGetVolumeHealth({}),
    controller.ControllerExpandVolume({ capacity_range }),
    controller.ValidateVolumeCapabilities({ volume_capabilities: [mount] }),
    node.NodeStageVolume({ ...stage, volume_id: '' }),
    node.NodeUnstageVolume({ staging_target_path: path }),
    node.NodePublishVolume({ ...publish, volume_id: '' }),
    node.NodeUnpublishVolume({ target_path: path }),
    node.NodeGetVolumeStats({ volume_path: path }),
    node.NodeGetVolumeHealth({}),
    node.NodeExpandVolume({ volume_path: path }),
  ];
  for (const call of missing) t.is(await codeOf(call), 'INVALID_ARGUMENT');
  t.is(calls.length, 0);
});

const others: readonly {
  name: string;
  code: string;
  call: (served: Awaited<ReturnType<typeof serveFake>>) => Promise<unknown>;
}[] = [
  {
    name: 'stage without capability',
    code: 'INVALID_ARGUMENT',
    call: ({ node }) => node.NodeStageVolume({ ...stage, volume_capability: null }),
  },
  {
    name: 'stage for several nodes',
    code: 'FAILED_PRECONDITION',
    call: ({ node }) =>
      node.NodeStageVolume({ ...stage, volume_capability: withMode('MULTI_NODE_MULTI_WRITER') }),
  },
  {
    name: 'stage with an access mode without a name',
    code: 'INVALID_ARGUMENT',
    call: ({ node }) => node.NodeStageVolume({ ...stage, volume_capability: withMode(42) }),
  },
  {
    name: 'publish without capability',
    code: 'INVALID_ARGUMENT',
    call: ({ node }) => node.NodePublishVolume({ ...publish, volume_capability: null }),
  },
  {
    name: 'publish for several nodes',
    code: 'FAILED_PRECONDITION',
    call: ({ node }) =>
      node.NodePublishVolume({
        ...publish,
        volume_capability: withMode('MULTI_NODE_SINGLE_WRITER'),
      }),
  },
  {
    name: 'publish with a bad staging path',
    code: 'INVALID_ARGUMENT',
    call: ({ node }) => node.NodePublishVolume({ ...publish, staging_target_path: '../a' }),
  },
  {
    name: 'inline volume with an unknown attribute',
    code: 'INVALID_ARGUMENT',
    call: ({ node }) =>
      node.NodePublishVolume({
        ...publish,
        volume_context: { 'csi.storage.k8s.io/ephemeral': 'true', sice: '1Gi' },
      }),
  },
  {
    name: 'inline volume with a bad size',
    code: 'INVALID_ARGUMENT',
    call: ({ node }) =>
      node.NodePublishVolume({
        ...publish,
        volume_context: { 'csi.storage.k8s.io/ephemeral': 'true', size: '-5' },
      }),
  },
  {
    name: 'inline volume',
    code: 'OK',
    call: ({ node }) =>
      node.NodePublishVolume({
        ...publish,
        staging_target_path: '',
        volume_context: {
          'csi.storage.k8s.io/ephemeral': 'true',
          'csi.storage.k8s.io/pod.name': 'p',
          'storage.kubernetes.io/x': 'y',
          size: '1Gi',
        },
      }),
  },
  {
    name: 'an id of 129 bytes',
    code: 'INVALID_ARGUMENT',
    call: ({ controller }) => controller.DeleteVolume({ volume_id: 'v'.repeat(129) }),
  },
  {
    name: 'a negative page size',
    code: 'INVALID_ARGUMENT',
    call: ({ controller }) => controller.ListVolumes({ max_entries: -1 }),
  },
  {
    name: 'a negative page size of health',
    code: 'INVALID_ARGUMENT',
    call: ({ controller }) => controller.ControllerListVolumeHealth({ max_entries: -1 }),
  },
  {
    name: 'expansion without a size',
    code: 'INVALID_ARGUMENT',
    call: ({ controller }) => controller.ControllerExpandVolume({ volume_id: 'v' }),
  },
  {
    name: 'expansion beyond its limit',
    code: 'OUT_OF_RANGE',
    call: ({ controller }) =>
      controller.ControllerExpandVolume({
        volume_id: 'v',
        capacity_range: { required_bytes: 5n, limit_bytes: 4n },
      }),
  },
  {
    name: 'expansion to a negative size',
    code: 'INVALID_ARGUMENT',
    call: ({ node }) =>
      node.NodeExpandVolume({
        volume_id: 'v',
        volume_path: '/a',
        capacity_range: { required_bytes: -5n },
      }),
  },
  {
    name: 'validation without capabilities',
    code: 'INVALID_ARGUMENT',
    call: ({ controller }) => controller.ValidateVolumeCapabilities({ volume_id: 'v' }),
  },
  {
    name: 'capacity with an unknown parameter',
    code: 'INVALID_ARGUMENT',
    call: ({ controller }) => controller.GetCapacity({ parameters: { x: 'y' } }),
  },
  {
    name: 'capacity for several nodes',
    code: 'INVALID_ARGUMENT',
    call: ({ controller }) =>
      controller.GetCapacity({ volume_capabilities: [withMode('MULTI_NODE_MULTI_WRITER')] }),
  },
];
for (const { name, code, call } of others) {
  test(`${name}: ${code}`, async (t) => {
    const served = await serveFake(t);
    t.is(await codeOf(call(served)), code);
  });
}
