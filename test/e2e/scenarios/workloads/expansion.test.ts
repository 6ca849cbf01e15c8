import test from 'ava';
import { eventually } from '../../eventually.ts';
import { type KubeObject, textAt } from '../../kube/api.ts';
import { classes } from '../../kube/chart.ts';
import { api, isBound, Scenario } from '../../kube/scenario.ts';

const mib = 1024;

async function sizeKib(scenario: Scenario, podName: string): Promise<number> {
  return Number(await scenario.sh(podName, 'df -k /data | tail -1 | awk "{print \\$2}"'));
}

/**
 * Requests a larger size for a claim. The kubelet checks the volumes of a running pod about once a minute; a change of the pod
 * makes it check at once.
 */
async function enlarge(
  scenario: Scenario,
  claim: string,
  options: { readonly size: string; readonly podName?: string },
): Promise<void> {
  const spec = { resources: { requests: { storage: options.size } } };
  await api.patch('PersistentVolumeClaim', scenario.namespace, claim, { spec });
  await scenario.event(claim, /FileSystemResizeRequired/);
  if (options.podName === undefined) return;
  const metadata = { annotations: { looked: 'at' } };
  await api.patch('Pod', scenario.namespace, options.podName, { metadata });
}

/** The claim's condition NodeResizeError has the driver's message. */
function namesCapability(claim: KubeObject): boolean {
  return /CAP_SYS_RESOURCE/.test(textAt(claim, 'status.conditions') ?? '');
}

/** Writes numbered lines continuously, each after the previous one is durable. */
const writer = '(i=0; while :; do i=$((i+1)); echo $i >>/data/lines || exit; sleep 0.02; done) &';

for (const fsType of ['xfs', 'btrfs'] as const) {
  test(`${fsType} grows while a pod writes continuously`, async (t) => {
    const scenario = await Scenario.begin(t, `grow-${fsType}`);
    await scenario.claim('data', { storageClass: classes[fsType], size: '320Mi' });
    await scenario.readyPod('writer', { claims: { '/data': 'data' }, script: `{ ${writer} } ` });
    const before = await sizeKib(scenario, 'writer');
    const lines = Number(await scenario.sh('writer', 'wc -l </data/lines'));
    await enlarge(scenario, 'data', { size: '640Mi', podName: 'writer' });
    await scenario.until(
      'PersistentVolumeClaim',
      'data',
      (claim) => textAt(claim, 'status.capacity.storage') === '640Mi',
      120_000,
    );
    const after = await sizeKib(scenario, 'writer');
    t.true(after > before + 300 * mib, `${before} KiB before, ${after} KiB after`);
    const now = await eventually('the writer to continue', async () => {
      const count = Number(await scenario.sh('writer', 'wc -l </data/lines'));
      return count > lines ? count : undefined;
    });
    t.is(
      await scenario.sh(
        'writer',
        `head -${now} /data/lines | awk '$1 != NR {print "gap at " NR; exit}'`,
      ),
      '',
    );
    t.is(
      textAt(await scenario.get('Pod', 'writer'), 'status.containerStatuses.0.restartCount'),
      '0',
    );
  });
}

test('ext4 grows while mounted if the driver has the capability, otherwise at the next mount, as the claim reports', async (t) => {
  const scenario = await Scenario.begin(t, 'grow-ext4');
  await scenario.claim('data', { size: '64Mi' });
  const claims = { '/data': 'data' };
  await scenario.readyPod('writer', { claims, script: 'echo kept >/data/file' });
  const before = await sizeKib(scenario, 'writer');
  await enlarge(scenario, 'data', { size: '256Mi', podName: 'writer' });
  const grew = async (): Promise<'grown' | undefined> =>
    (await sizeKib(scenario, 'writer')) > before + 100 * mib ? 'grown' : undefined;
  const reported = scenario
    .until('PersistentVolumeClaim', 'data', namesCapability, 120_000)
    .then(() => 'the claim reports that it grows at the next mount');
  const outcome = await Promise.any([
    eventually('the filesystem to grow', grew, { timeoutMs: 120_000 }),
    reported,
  ]);
  t.log(outcome);
  await scenario.delete('Pod', 'writer');
  await scenario.readyPod('next', { claims });
  const after = await sizeKib(scenario, 'next');
  t.true(after > before + 100 * mib, `${before} KiB before, ${after} KiB after`);
  t.is(await scenario.sh('next', 'cat /data/file'), 'kept');
  await scenario.until(
    'PersistentVolumeClaim',
    'data',
    (claim) => textAt(claim, 'status.capacity.storage') === '256Mi',
  );
});

test('an unused volume grows at its next mount', async (t) => {
  const scenario = await Scenario.begin(t, 'grow-unused');
  await scenario.claim('data', { storageClass: classes.immediate, size: '320Mi' });
  await scenario.until('PersistentVolumeClaim', 'data', isBound);
  await enlarge(scenario, 'data', { size: '640Mi' });
  await scenario.readyPod('user', { claims: { '/data': 'data' } });
  const kib = await sizeKib(scenario, 'user');
  t.true(kib > 500 * mib, `${kib} KiB`);
  await scenario.until(
    'PersistentVolumeClaim',
    'data',
    (claim) => textAt(claim, 'status.capacity.storage') === '640Mi',
  );
});

test('a raw block device grows in use', async (t) => {
  const scenario = await Scenario.begin(t, 'grow-block');
  await scenario.claim('disk', { size: '64Mi', block: true });
  await scenario.readyPod('user', { claims: { '/dev/disk': 'disk' }, block: true });
  await enlarge(scenario, 'disk', { size: '128Mi', podName: 'user' });
  const look = async (): Promise<true | undefined> =>
    (await scenario.sh('user', 'blockdev --getsize64 /dev/disk')) === String(128 * 2 ** 20)
      ? true
      : undefined;
  t.true(await eventually('the device to grow', look, { timeoutMs: 120_000 }));
});

test('after a request above the pool’s capacity an event shows both sizes, and the pod keeps running', async (t) => {
  const scenario = await Scenario.begin(t, 'grow-too-far');
  await scenario.claim('data', { storageClass: classes.tiny, size: '32Mi' });
  await scenario.readyPod('writer', {
    claims: { '/data': 'data' },
    script: 'echo kept >/data/file',
  });
  await enlarge(scenario, 'data', { size: '10Gi', podName: 'writer' });
  const message = await scenario.event('writer', /VolumeResizeFailed/, 120_000);
  t.log(message);
  t.regex(message, /pool 'tiny'/);
  t.regex(message, /10 GiB/);
  t.is(await scenario.sh('writer', 'cat /data/file'), 'kept');
});
