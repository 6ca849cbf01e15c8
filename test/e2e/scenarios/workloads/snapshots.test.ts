import test from 'ava';
import { textAt } from '../../kube/api.ts';
import { classes } from '../../kube/chart.ts';
import { loopcsi } from '../../kube/driver-pods.ts';
import { api, isBound, Scenario } from '../../kube/scenario.ts';

/** Snapshots, restores and clones in the pool with reflink. */
const storageClass = classes.reflink;
const size = '320Mi';

test('a snapshot of a volume in use is restored to a larger volume, while the source stays in use', async (t) => {
  const scenario = await Scenario.begin(t, 'snapshot');
  await scenario.claim('data', { storageClass, size });
  await scenario.readyPod('writer', {
    claims: { '/data': 'data' },
    script: 'echo first >/data/file && sync',
  });
  await scenario.snapshot('before', 'data');
  t.regex(
    await loopcsi('snapshot', 'list', '--volume', 'snapshot/data'),
    /^snapshot-\S+ +snapshot\/before +pvc-/m,
  );
  await scenario.sh('writer', 'echo second >/data/file && sync');

  const source = { kind: 'VolumeSnapshot', name: 'before' } as const;
  await scenario.claim('restored', { storageClass, size: '640Mi', source });
  await scenario.readyPod('reader', { claims: { '/data': 'restored' } });
  t.is(await scenario.sh('reader', 'cat /data/file'), 'first');
  const kib = Number(await scenario.sh('reader', 'df -k /data | tail -1 | awk "{print \\$2}"'));
  t.true(kib > 500 * 1024, `${kib} KiB`);
  t.is(await scenario.sh('writer', 'cat /data/file'), 'second');
});

test('a snapshot survives its volume, and its space is free after its deletion', async (t) => {
  const scenario = await Scenario.begin(t, 'outlives');
  await scenario.claim('data', { storageClass, size });
  await scenario.readyPod('writer', {
    claims: { '/data': 'data' },
    script: 'echo kept >/data/file && sync',
  });
  await scenario.snapshot('only', 'data');
  await scenario.delete('Pod', 'writer');
  const volume =
    textAt(await scenario.get('PersistentVolumeClaim', 'data'), 'spec.volumeName') ?? '';
  await scenario.delete('PersistentVolumeClaim', 'data');
  await api.untilGone('PersistentVolume', '', volume);

  await scenario.claim('back', {
    storageClass,
    size,
    source: { kind: 'VolumeSnapshot', name: 'only' },
  });
  await scenario.readyPod('reader', { claims: { '/data': 'back' } });
  t.is(await scenario.sh('reader', 'cat /data/file'), 'kept');
  const content =
    textAt(await scenario.get('VolumeSnapshot', 'only'), 'status.boundVolumeSnapshotContentName') ??
    '';
  await scenario.delete('VolumeSnapshot', 'only');
  await api.untilGone('VolumeSnapshotContent', '', content);
});

for (const storageClass of [classes.reflink, classes.embedded]) {
  test(`${storageClass}: a clone has the data of its source, and later changes are separate`, async (t) => {
    const scenario = await Scenario.begin(t, `clone-${storageClass}`);
    await scenario.claim('data', { storageClass, size });
    await scenario.readyPod('writer', {
      claims: { '/data': 'data' },
      script: 'echo shared >/data/file && sync',
    });
    await scenario.claim('twin', {
      storageClass,
      size,
      source: { kind: 'PersistentVolumeClaim', name: 'data' },
    });
    await scenario.readyPod('other', {
      claims: { '/data': 'twin' },
      script: 'cat /data/file >/data/copy && echo own >/data/file',
    });
    t.is(await scenario.sh('other', 'cat /data/copy'), 'shared');
    t.is(await scenario.sh('writer', 'cat /data/file'), 'shared');
  });
}

test('a block volume is snapshotted and restored as a block volume', async (t) => {
  const scenario = await Scenario.begin(t, 'snapshot-block');
  await scenario.claim('disk', { storageClass, size: '64Mi', block: true });
  const device = { block: true, claims: { '/dev/disk': 'disk' } };
  await scenario.readyPod('writer', {
    ...device,
    script: 'printf magic | dd of=/dev/disk bs=4096 seek=3 conv=fsync',
  });
  await scenario.snapshot('taken', 'disk');
  const source = { kind: 'VolumeSnapshot', name: 'taken' } as const;
  await scenario.claim('copy', { storageClass, size: '64Mi', block: true, source });
  await scenario.readyPod('reader', { block: true, claims: { '/dev/disk': 'copy' } });
  t.is(
    await scenario.sh('reader', 'dd if=/dev/disk bs=4096 skip=3 count=1 2>/dev/null | head -c 5'),
    'magic',
  );
});

test('a restore to a smaller claim is refused, and an event of the claim says why', async (t) => {
  const scenario = await Scenario.begin(t, 'smaller');
  await scenario.claim('data', { storageClass, size: '640Mi' });
  await scenario.readyPod('writer', { claims: { '/data': 'data' } });
  await scenario.until('PersistentVolumeClaim', 'data', isBound);
  await scenario.snapshot('large', 'data');
  const source = { kind: 'VolumeSnapshot', name: 'large' } as const;
  await scenario.claim('small', { storageClass, size: '320Mi', source });
  await scenario.pod('asks', { claims: { '/data': 'small' } });
  t.regex(await scenario.event('small', /ProvisioningFailed/), /less than the size|smaller|640/);
});
