/** What only works with one controller for all nodes: growth of unused claims, changed blocks and health. */
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type ServiceError, status } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { makeClient } from '../../../../src/csi/client.ts';
import { eventually } from '../../eventually.ts';
import { type KubeObject, textAt } from '../../kube/api.ts';
import { classes, release, systemNamespace } from '../../kube/chart.ts';
import { api, firstNode, isBound, layout, Scenario } from '../../kube/scenario.ts';
import {
  audience,
  endChangedBlocks,
  findServer,
  handleOf,
  makeAccount,
  serveChangedBlocks,
  sumOf,
  tokenOf,
} from '../../snapshot-metadata/cluster.ts';
import { type BlockRange, methods, readRanges } from '../../snapshot-metadata/protocol.ts';

test.before(serveChangedBlocks);

test.after.always(async () => endChangedBlocks(false));

async function grow(scenario: Scenario, claim: string, storage: string): Promise<KubeObject> {
  const spec = { resources: { requests: { storage } } };
  await api.patch('PersistentVolumeClaim', scenario.namespace, claim, { spec });
  const hasSize = (one: KubeObject): boolean => textAt(one, 'status.capacity.storage') === storage;
  return scenario.until('PersistentVolumeClaim', claim, hasSize, 180_000);
}

test.serial(
  'a claim that no pod uses shows its new size at once, and the pod that uses it next has it',
  async (t) => {
    const scenario = await Scenario.begin(t, 'unused');
    for (const [name, storageClass, block] of [
      ['xfs', classes.immediate, false],
      ['block', classes.immediate, true],
    ] as const) {
      await scenario.claim(name, { storageClass, size: '320Mi', block });
      // Leader election, and the first refresh of the Secrets by the kubelet.
      await scenario.until('PersistentVolumeClaim', name, isBound, 240_000);
      const grown = await grow(scenario, name, '640Mi');
      t.notRegex(textAt(grown, 'status') ?? '', /NodeResizePending|FileSystemResizePending/);
      t.regex(await scenario.event(name, /VolumeResizeSuccessful/), /VolumeResizeSuccessful/);
    }
    await scenario.readyPod('user', { claims: { '/data': 'xfs' } }, 180_000);
    const kib = Number(await scenario.sh('user', 'df -k /data | tail -1 | awk "{print \\$2}"'));
    t.true(kib > 500 * 1024, `${kib} KiB`);
    await scenario.readyPod('disk', { claims: { '/dev/disk': 'block' }, block: true }, 180_000);
    t.is(await scenario.sh('disk', 'blockdev --getsize64 /dev/disk'), String(640 * 2 ** 20));
  },
);

test.serial('ext4 grows too: before it is mounted if it cannot grow in use', async (t) => {
  const scenario = await Scenario.begin(t, 'unused-ext4');
  await scenario.claim('data', { size: '64Mi' });
  await scenario.readyPod(
    'first',
    { claims: { '/data': 'data' }, script: 'echo kept >/data/file' },
    240_000,
  );
  await scenario.delete('Pod', 'first');
  await api.untilGone('Pod', scenario.namespace, 'first');
  await grow(scenario, 'data', '256Mi');
  await scenario.readyPod('next', { claims: { '/data': 'data' } }, 180_000);
  const kib = Number(await scenario.sh('next', 'df -k /data | tail -1 | awk "{print \\$2}"'));
  t.true(kib > 200 * 1024, `${kib} KiB`);
  t.is(await scenario.sh('next', 'cat /data/file'), 'kept');
});

/** A shell script that copies these ranges, whose limits are multiples of 4 KiB. */
function copyScript(ranges: readonly BlockRange[], from: string, to: string): string {
  const lines = ranges.map(({ byte_offset, size_bytes }) => {
    const [at, count] = [byte_offset / 4096n, size_bytes / 4096n];
    const place = `skip=${at} seek=${at} count=${count}`;
    return `dd if=${from} of=${to} bs=4096 ${place} conv=notrunc 2>/dev/null || exit 1`;
  });
  return lines.join('\n');
}

async function codeOf(t: ExecutionContext, call: Promise<unknown>): Promise<string> {
  const error = await t.throwsAsync<ServiceError>(call as Promise<never>);
  t.log(error?.details);
  return status[error?.code ?? 0] ?? '';
}

test.serial(
  'a backup tool copies the allocated blocks of a snapshot and the changed blocks of the next one, and nobody else gets them',
  async (t) => {
    const scenario = await Scenario.begin(t, 'backup');
    const other = await Scenario.begin(t, 'backup-other');
    const storageClass = classes.immediateReflink;
    const size = '64Mi';
    await scenario.claim('source', { storageClass, size, block: true });
    await scenario.claim('unrelated', { storageClass, size, block: true });
    await scenario.readyPod(
      'writer',
      { claims: { '/dev/source': 'source', '/dev/unrelated': 'unrelated' }, block: true },
      240_000,
    );
    const write = async (seek: number, count: number) =>
      scenario.sh(
        'writer',
        `dd if=/dev/urandom of=/dev/source bs=1M seek=${seek} count=${count} conv=notrunc,fsync 2>&1`,
      );
    await write(0, 3);
    await write(40, 2);
    await scenario.snapshot('one', 'source');
    await scenario.snapshot('unrelated', 'unrelated');
    await write(41, 1);
    await write(60, 1);
    await scenario.snapshot('two', 'source');

    const server = await findServer();
    t.is(server.audience, audience);
    await makeAccount(scenario, 'backup', true);
    await makeAccount(scenario, 'nobody', false);
    await makeAccount(other, 'backup', true);
    const security_token = await tokenOf(scenario, 'backup', audience);
    const whole = { security_token, namespace: scenario.namespace, starting_offset: 0n };
    const first = { ...whole, snapshot_name: 'one', max_results: 0 };
    const allocated = async (request: Partial<typeof first> = {}) =>
      readRanges(server, methods.GetMetadataAllocated, { ...first, ...request });
    const delta = async (base_snapshot_id: string, target_snapshot_name = 'two') => {
      const request = { ...whole, base_snapshot_id, target_snapshot_name, max_results: 1 };
      return readRanges(server, methods.GetMetadataDelta, request);
    };

    const full = await allocated();
    t.is(full.volumeBytes, 64n << 20n);
    t.true(
      sumOf(full.ranges) >= 5n << 20n && sumOf(full.ranges) < 16n << 20n,
      `${sumOf(full.ranges)}`,
    );
    const base = await handleOf(scenario, 'one');
    const changed = await delta(base);
    t.is(sumOf(changed.ranges), 2n << 20n);

    // Restores of both snapshots, and an empty volume that becomes the copy.
    for (const name of ['one', 'two']) {
      const source = { kind: 'VolumeSnapshot', name } as const;
      await scenario.claim(name, { storageClass, size, block: true, source });
    }
    await scenario.claim('copy', { storageClass, size, block: true });
    const claims = { '/dev/one': 'one', '/dev/two': 'two', '/dev/copy': 'copy' };
    await scenario.readyPod('backup', { claims, block: true }, 180_000);
    const checksumOf = async (device: string) =>
      (await scenario.sh('backup', `sync; sha256sum <${device}`)).split(' ')[0];
    await scenario.sh('backup', copyScript(full.ranges, '/dev/one', '/dev/copy'));
    t.is(await checksumOf('/dev/copy'), await checksumOf('/dev/one'));
    t.not(await checksumOf('/dev/copy'), await checksumOf('/dev/two'));
    await scenario.sh('backup', copyScript(changed.ranges, '/dev/two', '/dev/copy'));
    t.is(await checksumOf('/dev/copy'), await checksumOf('/dev/two'));

    // The name of the base is never looked up in Kubernetes: only the driver can refuse it.
    const foreign = await handleOf(scenario, 'unrelated');
    t.is(await codeOf(t, delta(foreign)), 'INVALID_ARGUMENT');
    t.is(await codeOf(t, delta(`${base}x`)), 'NOT_FOUND');
    const refused = async (token: string, request: Partial<typeof first> = {}) =>
      codeOf(t, allocated({ security_token: token, ...request }));
    t.is(await refused(await tokenOf(scenario, 'backup', 'another')), 'UNAUTHENTICATED');
    t.is(await refused(`${security_token}x`), 'UNAUTHENTICATED');
    t.is(await refused(await tokenOf(scenario, 'nobody', audience)), 'PERMISSION_DENIED');
    const stranger = await tokenOf(other, 'backup', audience);
    t.is(await refused(stranger), 'PERMISSION_DENIED');
    t.is(await refused(stranger, { namespace: other.namespace }), 'NOT_FOUND');
    t.is(await refused(security_token, { starting_offset: 1n << 40n }), 'OUT_OF_RANGE');
  },
);

/** The socket of the controller, by a path that is short enough for a socket. */
async function linkToSocket(directory: string): Promise<string> {
  const selector = `app.kubernetes.io/instance=${release},app.kubernetes.io/component=controller`;
  const [pod] = await api.list('Pod', systemNamespace, selector);
  const volume = `${String(pod?.metadata['uid'])}/volumes/kubernetes.io~empty-dir/plugin`;
  const link = join(directory, 's');
  await symlink(await firstNode.pathOf(`/var/lib/kubelet/pods/${volume}/csi.sock`), link);
  return link;
}

test.serial(
  'the health of a volume is asked through the controller, also while its node does not answer',
  async (t) => {
    const scenario = await Scenario.begin(t, 'health');
    await scenario.claim('data', { storageClass: classes.immediate, size: '320Mi' });
    const volume_id = await scenario.volumeId('data');
    const directory = await mkdtemp(join(layout.state, 's-'));
    const client = makeClient('csi.v1.Controller', `unix://${await linkToSocket(directory)}`);
    const ask = async (id: string) =>
      client.ControllerGetVolumeHealth({ volume_id: id }, { timeoutMs: 10_000 });
    const driver = await firstNode.driverProcess();
    try {
      t.deepEqual((await ask(volume_id)).volume_health?.health_statuses, []);
      t.is(await codeOf(t, ask(`no-${volume_id}`)), 'NOT_FOUND');
      process.kill(driver, 'SIGSTOP');
      // Its own liveness probe ends the driver later: until then the node has been unreachable for a minute.
      const told = await eventually(
        'a volume whose node has been unreachable for a minute',
        async () => (await ask(volume_id)).volume_health?.health_statuses[0],
        { timeoutMs: 150_000 },
      );
      t.like(told, { status: 'DEGRADED', reason: 'AgentUnreachable' });
      process.kill(driver, 'SIGCONT');
      await eventually(
        'the health of the volume again',
        async () =>
          (await ask(volume_id)).volume_health?.health_statuses.length === 0 ? true : undefined,
        { timeoutMs: 180_000 },
      );
    } finally {
      client.close();
      await rm(directory, { recursive: true });
      try {
        process.kill(driver, 'SIGCONT');
      } catch {
        // The kubelet has replaced it.
      }
    }
  },
);
