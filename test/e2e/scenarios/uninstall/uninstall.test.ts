import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { nodePaths } from '../../cluster/layout.ts';
import { eventually } from '../../eventually.ts';
import { textAt } from '../../kube/api.ts';
import {
  chartPath,
  chartValues,
  classes,
  driverName,
  nodePods,
  release,
  systemNamespace,
} from '../../kube/chart.ts';
import { api, firstNode, helm, Scenario } from '../../kube/scenario.ts';

const inNamespace = ['--namespace', systemNamespace];

test.serial('no test left a volume, snapshot, loop device, image or mount behind', async (t) => {
  await eventually(
    'the last volume to be deleted',
    async () => {
      const left = [
        ...(await api.list('PersistentVolume')),
        ...(await api.list('VolumeSnapshotContent')),
      ];
      if (left.length > 0) throw new Error(left.map(({ metadata }) => metadata.name).join());
      return true;
    },
    { timeoutMs: 120_000 },
  );
  const pools = await firstNode.pathOf(nodePaths.pools);
  for (const pool of ['default', 'reflink', 'tiny']) {
    for (const area of ['volumes', 'snapshots', 'ephemeral', 'tmp']) {
      t.deepEqual(await readdir(join(pools, pool, area)), [], `${pool}/${area}`);
    }
    const isFreed = async (): Promise<true | undefined> =>
      (await readdir(join(pools, pool, 'trash'))).length === 0 ? true : undefined;
    t.true(await eventually(`the trash of ${pool} to be emptied`, isFreed));
  }
  // The disks of the pools are loop devices too; their images are in the parent directory of the pools.
  t.deepEqual(await firstNode.loopDevices('pools'), []);
  const mounts = (await firstNode.mountPoints()).filter((target) =>
    /kubernetes.io[/~]csi/.test(target),
  );
  t.deepEqual(mounts, []);
});

test.serial(
  'helm uninstall is refused while a volume or snapshot exists, and names it',
  async (t) => {
    const scenario = await Scenario.begin(t, 'precious');
    await scenario.claim('data', { storageClass: classes.reflink, size: '320Mi' });
    await scenario.readyPod('writer', {
      claims: { '/data': 'data' },
      script: 'echo kept >/data/file && sync',
    });
    const volume =
      textAt(await scenario.get('PersistentVolumeClaim', 'data'), 'spec.volumeName') ?? '';
    await scenario.snapshot('kept', 'data');
    const refused = await helm(['uninstall', release, ...inNamespace, '--timeout', '1m']);
    t.not(refused.exitCode, 0);
    const output = refused.stdout + refused.stderr;
    t.true(output.includes(volume), output);
    t.true(output.includes('precious/data'), output);
    t.true(output.includes('VolumeSnapshot precious/kept'), output);
    t.true(output.includes('--no-hooks'), output);
    t.is((await api.list('DaemonSet', systemNamespace)).length, 1);

    // A forced uninstall succeeds and keeps the data, and the same chart serves it again.
    const forced = await helm(['uninstall', release, ...inNamespace, '--no-hooks', '--wait']);
    t.is(forced.exitCode, 0, forced.stderr);
    await eventually('the driver to be gone', async () =>
      (await api.list('Pod', systemNamespace, nodePods)).length === 0 ? true : undefined,
    );
    t.is(
      await scenario.sh('writer', 'cat /data/file'),
      'kept',
      'the pod keeps running without the driver',
    );
    const values = JSON.stringify(chartValues());
    const again = await helm(
      ['install', release, chartPath, ...inNamespace, '--wait', '--values', '-'],
      values,
    );
    t.is(again.exitCode, 0, again.stderr);
    await scenario.delete('Pod', 'writer');
    await scenario.readyPod('reader', { claims: { '/data': 'data' } });
    t.is(await scenario.sh('reader', 'cat /data/file'), 'kept');
    await scenario.delete('Pod', 'reader');
    await scenario.delete('VolumeSnapshot', 'kept');
    await scenario.delete('PersistentVolumeClaim', 'data');
    await api.untilGone('PersistentVolume', '', volume);
  },
);

test.serial(
  'once no volume is left, helm uninstall removes everything except the CRDs',
  async (t) => {
    const { exitCode, stdout, stderr } = await helm([
      'uninstall',
      release,
      ...inNamespace,
      '--wait',
      '--timeout',
      '2m',
    ]);
    t.is(exitCode, 0, stdout + stderr);
    for (const kind of ['DaemonSet', 'CSIStorageCapacity', 'Pod'] as const) {
      const gone = async (): Promise<true | undefined> =>
        (await api.list(kind, systemNamespace)).length === 0 ? true : undefined;
      t.true(await eventually(`every ${kind} to be gone`, gone, { timeoutMs: 90_000 }));
    }
    const left = (await api.list('StorageClass')).filter(
      (one) => textAt(one, 'provisioner') === driverName,
    );
    t.deepEqual(left, []);
    t.deepEqual(await api.list('VolumeSnapshot'), [], 'the CRD is still served');
  },
);
