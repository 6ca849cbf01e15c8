import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { nodePaths } from '../../cluster/layout.ts';
import { eventually } from '../../eventually.ts';
import { textAt } from '../../kube/api.ts';
import { classes } from '../../kube/chart.ts';
import { claimSpec } from '../../kube/objects.ts';
import { api, firstNode, isBound, Scenario } from '../../kube/scenario.ts';

test('a claim that is too large for every node stays pending, an event of the pod says why, and a smaller claim is scheduled', async (t) => {
  const scenario = await Scenario.begin(t, 'too-large');
  await scenario.claim('huge', { storageClass: classes.tiny, size: '10Gi' });
  await scenario.pod('asks', { claims: { '/data': 'huge' } });
  await scenario.event('asks', /FailedScheduling.*did not have enough free storage/);
  const claim = await scenario.get('PersistentVolumeClaim', 'huge');
  t.is(textAt(claim, 'status.phase'), 'Pending');
  await scenario.claim('small', { storageClass: classes.tiny, size: '32Mi' });
  await scenario.readyPod('fits', { claims: { '/data': 'small' } });
});

test('Immediate binding does not check capacity first: the claim waits for a node with enough space', async (t) => {
  const scenario = await Scenario.begin(t, 'immediate-large');
  await scenario.claim('huge', { storageClass: classes.immediate, size: '900Ti' });
  await scenario.claim('small', { storageClass: classes.immediate, size: '320Mi' });
  await scenario.until('PersistentVolumeClaim', 'small', isBound);
  t.is(textAt(await scenario.get('PersistentVolumeClaim', 'huge'), 'status.phase'), 'Pending');
});

/** Mistakes in a class, and the message that the claim must show for each, with both binding modes. */
const wrongClasses = [
  {
    name: 'parameter',
    parameters: { poool: 'default' },
    says: /'poool' is not known; known keys: pool/,
  },
  {
    name: 'value',
    parameters: { provisioning: 'fat' },
    says: /'fat' is not allowed; allowed values: thin/,
  },
  {
    name: 'pool',
    parameters: { pool: 'nowhere' },
    says: /no pool 'nowhere'.*its pools are default/,
  },
  {
    name: 'filesystem',
    parameters: { 'csi.storage.k8s.io/fstype': 'zfs' },
    says: /filesystem 'zfs' is not offered; use ext4/,
  },
  { name: 'option', mountOptions: ['noload'], says: /mount option 'noload' is refused/ },
  { name: 'mkfs', parameters: { mkfsOptions: '--bogus' }, says: /bogus/ },
];

for (const { name, says, ...wrong } of wrongClasses) {
  test(`an event of the claim names the value to change in a class with a wrong ${name}`, async (t) => {
    const scenario = await Scenario.begin(t, `wrong-${name}`);
    const modes = ['Immediate', 'WaitForFirstConsumer'];
    const make = async (volumeBindingMode: string): Promise<string> => {
      const claimName = `wrong-${name}-${volumeBindingMode.toLowerCase()}`;
      const metadata = { name: claimName };
      const provisioner = 'loopcsi.io';
      await api.create('StorageClass', '', { metadata, provisioner, volumeBindingMode, ...wrong });
      t.teardown(() => api.delete('StorageClass', '', claimName));
      await scenario.claim(claimName, { storageClass: claimName });
      await scenario.pod(claimName, { claims: { '/data': claimName } });
      return claimName;
    };
    for (const claimName of await Promise.all(modes.map(make))) {
      t.regex(await scenario.event(claimName, /ProvisioningFailed/), says);
    }
  });
}

test('deleting the claim removes volume, image, loop device and mount', async (t) => {
  const scenario = await Scenario.begin(t, 'delete');
  await scenario.claim('data');
  await scenario.readyPod('user', { claims: { '/data': 'data' }, script: 'echo x >/data/file' });
  const id = await scenario.volumeId('data');
  const claim = await scenario.get('PersistentVolumeClaim', 'data');
  const directory = await firstNode.pathOf(join(nodePaths.pools, 'default/volumes'));
  t.true((await readdir(directory)).includes(id));
  const count = async (): Promise<number> => (await devicesOf(id)).length;
  t.true((await count()) > 0);

  await api.delete('Pod', scenario.namespace, 'user');
  await scenario.delete('PersistentVolumeClaim', 'data');
  await api.untilGone('PersistentVolume', '', textAt(claim, 'spec.volumeName') ?? '');
  t.false((await readdir(directory)).includes(id));
  t.is(await count(), 0);
});

async function devicesOf(id: string): Promise<readonly string[]> {
  return firstNode.loopDevices(id);
}

test('the volume of a pod that is deleted with --force is released', async (t) => {
  const scenario = await Scenario.begin(t, 'force');
  await scenario.claim('data');
  const claims = { '/data': 'data' };
  await scenario.readyPod('stubborn', { claims, script: 'echo kept >/data/file && sync' });
  await api.delete('Pod', scenario.namespace, 'stubborn', { gracePeriodSeconds: 0 });
  await scenario.readyPod('next', { claims });
  t.is(await scenario.sh('next', 'cat /data/file'), 'kept');
  await scenario.delete('Pod', 'next');
  const id = await scenario.volumeId('data');
  const isFree = async (): Promise<true | undefined> =>
    (await devicesOf(id)).length === 0 ? true : undefined;
  await eventually('the loop device to be gone', isFree);
  t.pass();
});

test('a generic ephemeral volume is created and deleted with its pod', async (t) => {
  const scenario = await Scenario.begin(t, 'generic');
  const volumes = {
    '/scratch': {
      ephemeral: {
        volumeClaimTemplate: { spec: claimSpec({ storageClass: classes.xfs, size: '320Mi' }) },
      },
    },
  };
  await scenario.readyPod('worker', { volumes, script: 'echo x >/scratch/file' });
  const name =
    textAt(await scenario.get('PersistentVolumeClaim', 'worker-v0'), 'spec.volumeName') ?? '';
  await scenario.delete('Pod', 'worker');
  await api.untilGone('PersistentVolumeClaim', scenario.namespace, 'worker-v0');
  await api.untilGone('PersistentVolume', '', name);
  t.pass();
});

test('an inline volume has the requested size, up to the configured maximum', async (t) => {
  const scenario = await Scenario.begin(t, 'inline');
  const inline = (size: string): Readonly<Record<string, object>> => ({
    '/scratch': { csi: { driver: 'loopcsi.io', volumeAttributes: { size } } },
  });
  await scenario.readyPod('worker', { volumes: inline('64Mi'), script: 'echo x >/scratch/file' });
  const kib = Number(await scenario.sh('worker', 'df -k /scratch | tail -1 | awk "{print \\$2}"'));
  t.true(kib > 50 * 1024 && kib <= 64 * 1024, `${kib} KiB`);
  await scenario.pod('greedy', { volumes: inline('1Gi') });
  t.regex(await scenario.event('greedy', /FailedMount/), /256 ?Mi/);
  await scenario.delete('Pod', 'greedy');
  await scenario.delete('Pod', 'worker');
});
