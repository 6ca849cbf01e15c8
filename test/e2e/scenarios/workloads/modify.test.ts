import test from 'ava';
import { textAt } from '../../kube/api.ts';
import { driverName } from '../../kube/chart.ts';
import { api, isBound, Scenario } from '../../kube/scenario.ts';

/** Creates a VolumeAttributesClass for the test, and deletes it afterwards. */
async function makeClass(
  t: { teardown(work: () => Promise<void>): void },
  name: string,
  parameters: Readonly<Record<string, string>>,
): Promise<void> {
  await api.create('VolumeAttributesClass', '', { metadata: { name }, driverName, parameters });
  t.teardown(() => api.delete('VolumeAttributesClass', '', name));
}

const use = (scenario: Scenario, claim: string, volumeAttributesClassName: string) =>
  api.patch('PersistentVolumeClaim', scenario.namespace, claim, {
    spec: { volumeAttributesClassName },
  });

/** The nodes of the test have cgroup v1, where only `trim` can be changed. */
test('a VolumeAttributesClass changes trim; limits and unknown keys are refused with an event that says why', async (t) => {
  const scenario = await Scenario.begin(t, 'modify');
  await makeClass(t, 'no-trim', { trim: 'off' });
  await makeClass(t, 'slow', { writeBytesPerSecond: '10Mi' });
  await makeClass(t, 'misspelt', { writeBytePerSecond: '10Mi' });
  await scenario.claim('data');
  await scenario.readyPod('user', { claims: { '/data': 'data' } });

  await use(scenario, 'data', 'no-trim');
  const path = 'status.currentVolumeAttributesClassName';
  const changed = await scenario.until(
    'PersistentVolumeClaim',
    'data',
    (claim) => textAt(claim, path) === 'no-trim',
  );
  t.true(isBound(changed));
  t.regex(await scenario.event('data', /VolumeModifySuccessful/), /VolumeModifySuccessful/);

  await use(scenario, 'data', 'slow');
  t.regex(
    await scenario.event('data', /FailedPrecondition/),
    /VolumeModifyFailed.*I\/O limits cannot be set on this node: \/sys\/fs\/cgroup is not a directory of cgroup v2; .* boot the node/,
  );
  await use(scenario, 'data', 'misspelt');
  await scenario.event('data', /'writeBytePerSecond' is not known; known keys: trim, read/);
  t.is(textAt(await scenario.get('PersistentVolumeClaim', 'data'), path), 'no-trim');
});
