/** The chart is changed to `controller.enabled` and back while a pod writes and verifies checksums. */
import test from 'ava';
import { scaledMs } from '../../../helpers/slowness.ts';
import { textAt } from '../../kube/api.ts';
import { classes, release } from '../../kube/chart.ts';
import { Checker } from '../../kube/checksums.ts';
import { api, Scenario } from '../../kube/scenario.ts';
import { changeShape } from '../../kube/shape.ts';

const storageClass = classes.reflink;
/** A round of the writer takes less than a second; snapshots freeze its filesystem, and a busy machine delays it. */
const longestPauseSeconds = scaledMs(60_000) / 1000;

async function snapshot(scenario: Scenario, name: string, claim: string): Promise<void> {
  await scenario.create('VolumeSnapshot', {
    metadata: { name },
    spec: { volumeSnapshotClassName: release, source: { persistentVolumeClaimName: claim } },
  });
  await scenario.until(
    'VolumeSnapshot',
    name,
    (one) => textAt(one, 'status.readyToUse') === 'true',
    // Leader election, and the first refresh of the Secrets by the kubelet.
    240_000,
  );
}

async function grow(scenario: Scenario, claim: string, storage: string): Promise<void> {
  await api.patch('PersistentVolumeClaim', scenario.namespace, claim, {
    spec: { resources: { requests: { storage } } },
  });
}

/** Deletes a claim, its volume, and the pod of the same name that uses it. */
async function deleteAll(scenario: Scenario, claim: string): Promise<void> {
  const bound = await scenario.get('PersistentVolumeClaim', claim);
  const volume = textAt(bound, 'spec.volumeName') ?? '';
  await scenario.delete('Pod', claim);
  await scenario.delete('PersistentVolumeClaim', claim);
  await api.untilGone('PersistentVolume', '', volume, 120_000);
}

test.serial(
  'sidecars on the node → controller → sidecars on the node, while a pod writes',
  async (t) => {
    const scenario = await Scenario.begin(t, 'shapes');
    const checker = await Checker.start(scenario, 'writer', storageClass);
    const id = await checker.volumeId();
    await snapshot(scenario, 'before', 'writer');

    await changeShape(true);
    t.teardown(() => changeShape(false));
    t.is(await checker.volumeId(), id);
    await checker.stillWrites();

    // Provisioning waits until controller and driver trust each other.
    await scenario.claim('new', { storageClass, size: '320Mi' });
    await scenario.readyPod(
      'new',
      { claims: { '/data': 'new' }, script: 'echo new >/data/file' },
      240_000,
    );
    await snapshot(scenario, 'during', 'new');
    for (const [name, expected] of [
      ['before', 'log'],
      ['during', 'file'],
    ] as const) {
      const source = { kind: 'VolumeSnapshot', name } as const;
      const restored = `restored-${name}`;
      await scenario.claim(restored, { storageClass, size: '320Mi', source });
      await scenario.readyPod(restored, { claims: { '/data': restored } }, 120_000);
      t.is(await scenario.sh(restored, `test -s /data/${expected} && echo found`), 'found');
    }

    // A pod uses it: the kubelet grows the filesystem.
    await grow(scenario, 'new', '640Mi');
    await scenario.until(
      'PersistentVolumeClaim',
      'new',
      (claim) => textAt(claim, 'status.capacity.storage') === '640Mi',
      180_000,
    );
    await deleteAll(scenario, 'restored-during');
    await scenario.delete('VolumeSnapshot', 'before');

    await changeShape(false);
    t.is(await checker.volumeId(), id);
    await checker.stillWrites();
    await scenario.claim('back', { storageClass, size: '320Mi' });
    await scenario.readyPod(
      'back',
      { claims: { '/data': 'back' }, script: 'echo ok >/data/file' },
      120_000,
    );
    await deleteAll(scenario, 'back');
    await scenario.delete('VolumeSnapshot', 'during');
    await checker.assertWhole(t);
    const pauseSeconds = await checker.longestPause();
    t.log(`the longest pause of the writer was ${pauseSeconds} s`);
    t.true(pauseSeconds < longestPauseSeconds, `${pauseSeconds} s`);
  },
);
