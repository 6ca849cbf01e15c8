import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { run } from '../../../../scripts/command.ts';
import { textAt } from '../../kube/api.ts';
import { classes } from '../../kube/chart.ts';
import { loopcsi, loopcsiFrom } from '../../kube/driver-pods.ts';
import { api, kubectl, layout, Scenario } from '../../kube/scenario.ts';

test('a directory that was imported on the node becomes a claim by its manifest, and a pod reads its data', async (t) => {
  const scenario = await Scenario.begin(t, 'imported');
  const directory = await mkdtemp(join(layout.state, 'local-'));
  t.teardown(() => rm(directory, { recursive: true }));
  await mkdir(join(directory, 'data', 'sub'), { recursive: true });
  await writeFile(join(directory, 'data', 'sub', 'file'), 'of the old storage');

  // As docs/import-export.md describes it for a driver in a pod, which does not see the directory.
  const image = join(directory, 'data.img');
  const mkfs = ['-q', '-b', '4096', '-d', join(directory, 'data'), image, '64M'];
  await run('mkfs.ext4', mkfs);
  const size = String((await stat(image)).size);
  await loopcsiFrom(image, 'volume', 'import', 'old-data', '-', '--size', size);
  const manifest = join(directory, 'manifest.yaml');
  const claim = `${scenario.namespace}/data`;
  await writeFile(
    manifest,
    await loopcsi('volume', 'manifest', 'old-data', claim, '--storage-class', classes.ext4),
  );
  await kubectl('apply', '--filename', manifest);

  const claims = { '/data': 'data' };
  await scenario.readyPod('reader', { claims, script: 'echo new >/data/written && sync' });
  t.is(await scenario.sh('reader', 'cat /data/sub/file'), 'of the old storage');
  const volumeId = await scenario.volumeId('data');
  t.regex(await loopcsi('volume', 'list'), /^old-data /m);
  t.regex(await loopcsi('volume', 'get', 'old-data'), new RegExp(`^Id: +${volumeId}$`, 'm'));

  // The persistent volume is retained: without its claim, the data is kept until the operator deletes it.
  await scenario.delete('Pod', 'reader');
  await scenario.delete('PersistentVolumeClaim', 'data');
  const released = await api.until('PersistentVolume', '', 'old-data', (volume) => {
    return textAt(volume, 'status.phase') === 'Released';
  });
  t.is(textAt(released, 'spec.persistentVolumeReclaimPolicy'), 'Retain');
  await kubectl('delete', 'persistentvolume', 'old-data');
  t.regex(await loopcsi('volume', 'delete', 'old-data', '--yes'), /old-data/);
});
