import { join } from 'node:path';
import test from 'ava';
import { nodePaths } from '../../cluster/layout.ts';
import { eventually } from '../../eventually.ts';
import { textAt } from '../../kube/api.ts';
import { chartPath, chartValues } from '../../kube/chart.ts';
import { api, helm, kubectl, Scenario } from '../../kube/scenario.ts';

/** A second release on the same cluster, with other values wherever an operator may set them. */
const release = 'shelf';
const namespace = 'other-system';
const driver = 'shelf.example.org';
const inNamespace = ['--namespace', namespace];

function values(
  more: Readonly<Record<string, object>> = {},
  pools: readonly string[] = ['one'],
): string {
  const pool = (name: string): object => ({
    name,
    path: join(nodePaths.pools, `shelf-${name}`),
    create: true,
    reserve: '1%',
  });
  return JSON.stringify({
    ...chartValues(),
    fullnameOverride: `shelf-${'x'.repeat(57)}`,
    commonLabels: { team: 'storage' },
    stateDir: join(nodePaths.driver, 'shelf-state'),
    priorityClassName: '',
    tolerations: [{ key: 'dedicated', operator: 'Equal', value: 'storage' }],
    driver: { name: driver, defaultFsType: 'xfs', httpPort: 8080 },
    pools: pools.map(pool),
    storageClasses: [{ name: 'shelf', parameters: { pool: 'one' } }],
    volumeSnapshotClasses: [{ name: 'shelf', default: false }],
    'snapshot-controller': { enabled: false },
    ...more,
  });
}

async function install(command: 'install' | 'upgrade', input: string): ReturnType<typeof helm> {
  const flags = [...inNamespace, '--create-namespace', '--wait', '--timeout', '2m'];
  return helm([command, release, chartPath, ...flags, '--values', '-'], input);
}

test('a second release with other names, driver and pools works beside the first, is upgraded, and is uninstalled', async (t) => {
  // Runs after the end of the scenario, which deletes its claims: only this release can delete their volumes.
  t.teardown(async () => {
    await api.untilGone('Namespace', '', 'second').catch(() => undefined);
    await helm(['uninstall', release, ...inNamespace, '--no-hooks', '--wait']);
    await api.delete('Namespace', '', namespace);
  });
  const scenario = await Scenario.begin(t, 'second');
  const installed = await install('install', values());
  t.is(installed.exitCode, 0, installed.stderr);
  await scenario.claim('data', { storageClass: 'shelf', size: '320Mi' });
  const claims = { '/data': 'data' };
  await scenario.readyPod('writer', { claims, script: 'echo kept >/data/file && sync' });
  t.regex(await scenario.sh('writer', 'grep " /data " /proc/mounts'), / \/data xfs /);
  t.regex(await scenario.volumeId('data'), /^pvc-/);
  const tested = await helm(['test', release, ...inNamespace, '--logs']);
  t.is(tested.exitCode, 0, tested.stdout + tested.stderr);
  t.regex(tested.stdout, /snapshots: (?:ok, )?distributed/);

  // The error of a disabled feature says how to enable it. An upgrade then enables it, and adds a pool.
  const inline = { '/scratch': { csi: { driver, volumeAttributes: { size: '320Mi' } } } };
  await scenario.pod('inline', { volumes: inline });
  t.regex(
    await scenario.event('inline', /FailedMount/),
    /are disabled.*driver\.ephemeral\.enabled/,
  );
  const classOne = { name: 'shelf', parameters: { pool: 'one' } };
  const classTwo = {
    name: 'shelf-two',
    parameters: { pool: 'two' },
    volumeBindingMode: 'Immediate',
  };
  const more = {
    driver: { name: driver, defaultFsType: 'xfs', httpPort: 8081, ephemeral: { enabled: true } },
    storageClasses: [classOne, classTwo],
  };
  const upgraded = await install('upgrade', values(more, ['one', 'two']));
  t.is(upgraded.exitCode, 0, upgraded.stderr);
  await scenario.untilReady('inline', 180_000);
  await scenario.claim('more', { storageClass: 'shelf-two', size: '320Mi' });
  await scenario.readyPod('reader', { claims: { '/more': 'more', ...claims } });
  t.is(await scenario.sh('reader', 'cat /data/file'), 'kept');

  // The fields of a class are immutable: the error names the field, and the running release is not changed.
  const storageClasses = [{ ...classOne, parameters: { pool: 'one', trim: 'off' } }, classTwo];
  const changed = await install('upgrade', values({ ...more, storageClasses }, ['one', 'two']));
  t.not(changed.exitCode, 0);
  t.regex(changed.stderr, /parameters/);
  t.is(await scenario.sh('reader', 'cat /data/file'), 'kept');

  await Promise.all(['writer', 'reader', 'inline'].map((name) => scenario.delete('Pod', name)));
  const volumes = await Promise.all(
    ['data', 'more'].map(async (name) =>
      textAt(await scenario.get('PersistentVolumeClaim', name), 'spec.volumeName'),
    ),
  );
  for (const name of ['data', 'more']) await scenario.delete('PersistentVolumeClaim', name);
  for (const name of volumes) await api.untilGone('PersistentVolume', '', name ?? '');
  const gone = await helm(['uninstall', release, ...inNamespace, '--wait']);
  t.is(gone.exitCode, 0, gone.stdout + gone.stderr);
  const kinds = 'all,serviceaccounts,configmaps,roles,rolebindings';
  const left = async (): Promise<string> =>
    (await kubectl(
      'get',
      kinds,
      ...inNamespace,
      '--selector',
      'team=storage',
      '--output',
      'name',
    )) +
    (await kubectl(
      'get',
      'clusterroles,clusterrolebindings,storageclasses,volumesnapshotclasses,csidrivers',
      '--selector',
      'team=storage',
      '--output',
      'name',
    ));
  t.true(
    await eventually('nothing of the release to be left', async () => {
      const names = await left();
      if (names.trim() !== '') throw new Error(names);
      return true;
    }),
  );
});
