import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { nodePaths } from '../../cluster/layout.ts';
import { classes } from '../../kube/chart.ts';
import { firstNode, Scenario } from '../../kube/scenario.ts';

for (const fsType of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${fsType}: a claim gives a pod a volume of the requested size, whose data survives the pod`, async (t) => {
    const scenario = await Scenario.begin(t, `fs-${fsType}`);
    await scenario.claim('data', { storageClass: classes[fsType], size: '400Mi' });
    const claims = { '/data': 'data' };
    await scenario.readyPod('one', { claims, script: 'echo kept >/data/file && sync' });
    const mounted = await scenario.sh('one', 'grep " /data " /proc/mounts | cut -d" " -f3');
    t.is(mounted, fsType);
    const kib = Number(await scenario.sh('one', 'df -k /data | tail -1 | awk "{print \\$2}"'));
    t.true(kib > 300 * 1024 && kib <= 400 * 1024, `${kib} KiB`);

    await scenario.delete('Pod', 'one');
    await scenario.readyPod('two', { claims });
    t.is(await scenario.sh('two', 'cat /data/file'), 'kept');
  });
}

test('a raw block device has exactly the requested size and keeps its data', async (t) => {
  const scenario = await Scenario.begin(t, 'block');
  await scenario.claim('disk', { block: true, size: '64Mi' });
  const device = { claims: { '/dev/disk': 'disk' }, block: true };
  await scenario.readyPod('one', device);
  t.is(await scenario.sh('one', 'blockdev --getsize64 /dev/disk'), String(64 * 2 ** 20));
  await scenario.sh('one', 'printf magic | dd of=/dev/disk bs=4096 seek=7 conv=fsync 2>/dev/null');
  await scenario.delete('Pod', 'one');
  await scenario.readyPod('two', device);
  t.is(
    await scenario.sh('two', 'dd if=/dev/disk bs=4096 skip=7 count=1 2>/dev/null | head -c 5'),
    'magic',
  );
});

test('writing more than the size fails with ENOSPC, and affects nothing else', async (t) => {
  const scenario = await Scenario.begin(t, 'full');
  await scenario.claim('data', { size: '32Mi' });
  await scenario.readyPod('writer', {
    claims: { '/data': 'data' },
    script: 'echo kept >/data/file',
  });
  const full = await scenario.trySh('writer', 'dd if=/dev/zero of=/data/big bs=1M count=64');
  t.not(full.exitCode, 0);
  t.regex(full.stderr, /No space left on device/);
  t.is(await scenario.sh('writer', 'rm /data/big && cat /data/file'), 'kept');
});

test('fsGroup owns the volume, and the pod writes as an ordinary user', async (t) => {
  const scenario = await Scenario.begin(t, 'fsgroup');
  await scenario.claim('data');
  await scenario.readyPod('writer', {
    claims: { '/data': 'data' },
    securityContext: { runAsUser: 1000, runAsGroup: 1000, fsGroup: 2345 },
    script: 'echo mine >/data/file',
  });
  t.is(await scenario.sh('writer', 'stat -c %g /data /data/file | sort -u'), '2345');
  t.is(await scenario.sh('writer', 'id -u'), '1000');
});

test('mount options of the class are applied', async (t) => {
  const scenario = await Scenario.begin(t, 'options');
  await scenario.claim('data', { storageClass: classes.noatime });
  await scenario.readyPod('reader', { claims: { '/data': 'data' } });
  t.regex(await scenario.sh('reader', 'grep " /data " /proc/mounts'), /\bnoatime\b/);
});

test('a claim mounted read-only cannot be written', async (t) => {
  const scenario = await Scenario.begin(t, 'readonly');
  await scenario.claim('data');
  await scenario.readyPod('writer', {
    claims: { '/data': 'data' },
    script: 'echo kept >/data/file',
  });
  await scenario.readyPod('reader', { claims: { '/data': 'data' }, readOnly: true });
  t.is(await scenario.sh('reader', 'cat /data/file'), 'kept');
  const refused = await scenario.trySh('reader', 'echo no >/data/file');
  t.regex(refused.stderr, /Read-only file system/);
});

test('a thick volume is allocated completely from the start', async (t) => {
  const scenario = await Scenario.begin(t, 'thick');
  await scenario.claim('data', { storageClass: classes.thick, size: '64Mi' });
  await scenario.readyPod('writer', { claims: { '/data': 'data' }, script: 'echo x >/data/file' });
  const volume = join(nodePaths.pools, 'default/volumes', await scenario.volumeId('data'));
  const { blocks, size } = await stat(await firstNode.pathOf(join(volume, 'disk.img')));
  t.true(blocks * 512 >= size, `${blocks * 512} of ${size} bytes`);
});
