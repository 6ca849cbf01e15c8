import { mkdir, mkdtemp, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type Client, makeClient } from '../../src/csi/client.ts';
import type { Partially } from '../../src/csi/rpc-types.ts';
import type { VolumeCapability } from '../../src/csi/types.ts';
import { MiB } from '../../src/units.ts';
import { runCommand } from '../helpers/command-line.ts';
import { startDriver } from '../helpers/driver.ts';
import { onNode } from '../helpers/on-node.ts';
import { metricsUrl, scrape } from '../helpers/scrape.ts';
import { removeAll } from '../helpers/scratch-pool.ts';

/** The keys with which the sidecars and the kubelet name the objects of Kubernetes. */
function keys(values: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).map(([key, value]) => [`csi.storage.k8s.io/${key}`, value]),
  );
}

const claimKeys = keys({ 'pvc/namespace': 'default', 'pvc/name': 'data', 'pv/name': 'pvc-1' });
const snapshotKeys = keys({
  'volumesnapshot/namespace': 'default',
  'volumesnapshot/name': 'monday',
  'volumesnapshotcontent/name': 'snapcontent-1',
});
const podKeys = (name: string) =>
  keys({ 'pod.namespace': 'default', 'pod.name': name, 'pod.uid': `uid-of-${name}` });

const shared: Partially<VolumeCapability> = {
  access_mode: { mode: 'SINGLE_NODE_MULTI_WRITER' },
  access_type: 'mount',
  mount: { fs_type: 'ext4' },
};

interface Cluster {
  readonly directory: string;
  readonly controller: Client<'csi.v1.Controller'>;
  readonly node: Client<'csi.v1.Node'>;
  /** Runs a command in a pipe, and returns its output. */
  readonly ok: (...args: readonly string[]) => Promise<string>;
  readonly run: (...args: readonly string[]) => ReturnType<typeof runCommand>;
  readonly log: () => Promise<readonly Readonly<Record<string, unknown>>[]>;
  readonly kill: () => Promise<void>;
  /** Body of /metrics. */
  readonly metrics: () => Promise<string>;
}

async function startCluster(t: ExecutionContext): Promise<Cluster> {
  const directory = await mkdtemp('/var/tmp/loopcsi-owners-');
  t.teardown(async () => {
    const left = await removeAll(directory);
    if (left.length > 0) throw new Error(`left behind: ${left.join(', ')}`);
  });
  const start = () =>
    startDriver(directory, ['--http-address=127.0.0.1:0', '--ephemeral-max-size=1Gi']);
  let driver = await start();
  t.teardown(() => driver.stop());
  let logOfKilled = '';
  const address = `unix://${driver.endpoint}`;
  const controller = makeClient('csi.v1.Controller', address);
  const node = makeClient('csi.v1.Node', address);
  t.teardown(() => {
    controller.close();
    node.close();
  });
  const run: Cluster['run'] = (...args) => runCommand(driver.endpoint, ...args);
  const log: Cluster['log'] = async () =>
    (logOfKilled + (await driver.log()))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return {
    directory,
    controller,
    node,
    run,
    log,
    ok: async (...args) => {
      const { exitCode, stdout, stderr } = await run(...args);
      t.is(exitCode, 0, `${args.join(' ')}: ${stderr}`);
      return stdout;
    },
    kill: async () => {
      await driver.kill();
      logOfKilled += await driver.log();
      driver = await start();
    },
    metrics: async () => scrape(await metricsUrl(driver)),
  };
}

/** Creates the volume of the claim, and publishes it for these pods. Returns its id. */
async function useClaim(
  { controller, node, directory }: Cluster,
  pods: readonly string[],
): Promise<string> {
  const { volume } = await controller.CreateVolume({
    name: 'pvc-1',
    capacity_range: { required_bytes: 32n * MiB },
    volume_capabilities: [shared],
    parameters: claimKeys,
  });
  const volume_id = volume?.volume_id ?? '';
  const staging_target_path = join(directory, 'staging');
  await mkdir(staging_target_path);
  const request = { volume_id, staging_target_path, volume_capability: shared };
  await node.NodeStageVolume(request);
  for (const pod of pods) {
    await node.NodePublishVolume({
      ...request,
      target_path: join(directory, pod),
      volume_context: podKeys(pod),
    });
  }
  return volume_id;
}

async function endUse(
  { node, directory }: Cluster,
  { volumeId: volume_id, pods }: { volumeId: string; pods: readonly string[] },
): Promise<void> {
  for (const pod of pods) {
    await node.NodeUnpublishVolume({ volume_id, target_path: join(directory, pod) });
  }
  await node.NodeUnstageVolume({ volume_id, staging_target_path: join(directory, 'staging') });
}

onNode('a claim and its pods are named everywhere, also after the driver was killed', async (t) => {
  const cluster = await startCluster(t);
  const { controller, ok, run } = cluster;
  const pods = ['web-0', 'web-1'];
  const volumeId = await useClaim(cluster, pods);
  await controller.CreateSnapshot({
    name: 'snapshot-1',
    source_volume_id: volumeId,
    parameters: { freeze: 'yes', ...snapshotKeys },
  });
  await cluster.kill();

  t.regex(await ok('volume', 'list'), /^pvc-1 +default\/data .* ok +web-0 \(\+1\) /m);
  t.is((await ok('volume', 'list', 'default/data')).split('\n').length, 2);
  t.is((await ok('volume', 'list', 'other/')).split('\n').length, 1);
  const got = JSON.parse(await ok('volume', 'get', 'default/data', '--json')) as {
    id: string;
    owner: unknown;
    pods: readonly { since: string }[];
  };
  t.is(got.id, volumeId);
  t.deepEqual(got.owner, {
    namespace: 'default',
    claim: 'data',
    persistentVolume: 'pvc-1',
    pod: null,
  });
  t.like(got.pods[0], {
    namespace: 'default',
    name: 'web-0',
    uid: 'uid-of-web-0',
    targetPath: join(cluster.directory, 'web-0'),
  });
  t.true(Math.abs(Date.now() - Date.parse(got.pods[1]?.since ?? '')) < 60_000);
  t.regex(await ok('volume', 'get', volumeId), /^Pods: +default\/web-0, since 20/m);
  t.regex(await ok('snapshot', 'list'), /^snapshot-1 +default\/monday /m);
  t.regex(await ok('snapshot', 'get', 'default/monday'), /^Name: +snapshot-1$/m);
  t.is((await run('volume', 'get', 'default/logs')).exitCode, 1);

  t.true(
    (await cluster.metrics()).includes(
      `loopcsi_volume_info{pool="default",volume="${volumeId}",namespace="default",persistentvolumeclaim="data",persistentvolume="pvc-1",filesystem="ext4"} 1`,
    ),
  );
  await truncate(join(cluster.directory, 'pool', 'volumes', volumeId, 'disk.img'), 1024 ** 2);
  const { volume_health } = await controller.ControllerGetVolumeHealth({ volume_id: volumeId });
  t.regex(
    volume_health?.health_statuses.find(({ reason }) => reason === 'ImageShort')?.message ?? '',
    /^claim default\/data: the image was truncated/,
  );
  t.regex(
    (await run('volume', 'health')).stdout,
    /^pvc-1 \(default\/data\): DATA_LOSS ImageShort/m,
  );
  t.regex(await ok('doctor', '--quiet'), /claim default\/data: ImageShort/);

  const lines = (await cluster.log()).filter(
    ({ namespace, claim }) => namespace === 'default' && claim === 'data',
  );
  const ended = lines.filter(({ msg }) => msg === 'call ended');
  t.deepEqual(
    ended.map(({ rpc, pod, volumeSnapshot }) => [rpc, pod ?? volumeSnapshot]),
    [
      ['CreateVolume', undefined],
      ['NodeStageVolume', undefined],
      ['NodePublishVolume', 'web-0'],
      ['NodePublishVolume', 'web-1'],
      ['CreateSnapshot', 'monday'],
    ],
  );
  await endUse(cluster, { volumeId, pods });
});

onNode(
  'an inline volume is named by its pod, and names that Kubernetes forbids by nothing',
  async (t) => {
    const cluster = await startCluster(t);
    const { controller, node, ok } = cluster;
    await node.NodePublishVolume({
      volume_id: 'csi-1',
      target_path: join(cluster.directory, 'web-0'),
      volume_capability: shared,
      volume_context: { ...podKeys('web-0'), ...keys({ ephemeral: 'true' }), size: '32Mi' },
    });
    const hostile = '\u001b[2J\nweb  default/data';
    await controller.CreateVolume({
      name: 'pvc-2',
      capacity_range: { required_bytes: 32n * MiB },
      volume_capabilities: [shared],
      parameters: { ...claimKeys, ...keys({ 'pvc/name': hostile }) },
    });
    const list = await ok('volume', 'list');
    t.regex(list, /^csi-1 \(inline\) +default\/web-0 .* ok +web-0 /m);
    t.is(list.split('\n').length, 3);
    t.false(list.includes('\u001b'), list);
    t.false((await cluster.metrics()).includes('\u001b'));
    t.deepEqual(JSON.parse(await ok('volume', 'list', 'default/data', '--json')), []);
    await node.NodeUnpublishVolume({
      volume_id: 'csi-1',
      target_path: join(cluster.directory, 'web-0'),
    });
  },
);
