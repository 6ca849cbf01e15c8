import { truncate } from 'node:fs/promises';
import test from 'ava';
import { MiB } from '../../../../../src/units.ts';
import { HealthSurvey } from '../../../../../src/volumes/admin/metrics/health-survey.ts';
import { fakeNode } from '../../../../helpers/fake-node.ts';
import { call, volumeInput } from '../../../../helpers/scratch-node.ts';
import { until } from '../../../../helpers/until.ts';

test('a survey runs in the background, and again only after a pause', async (t) => {
  const node = await fakeNode(t);
  const { domain, volumes } = await node.open([node.settings('a')]);
  const input = volumeInput('v', { sizeBytes: 64n * MiB });
  const { record } = await volumes.createVolume(call(), input);
  const [volume] = [...domain.pools.named('a').images()];
  await truncate(volume?.imagePath ?? '', 1024 * 1024);
  const survey = new HealthSurvey(domain);
  t.is(survey.latest(), undefined, 'no scrape waits for it');
  await until('the survey has ended', () => survey.latest() !== undefined);
  const first = survey.latest();
  t.deepEqual([...(first?.ofVolumes ?? [])], [[record.id, ['ImageShort']]]);
  t.deepEqual([...(first?.ofPools ?? [])], []);
  const calls = node.host.watch.calls.length;
  t.is(survey.latest(), first);
  t.is(node.host.watch.calls.length, calls, 'no other survey was started');

  const impatient = new HealthSurvey(domain, { minPauseMs: 0 });
  impatient.latest();
  await until('a first survey has ended', () => impatient.latest() !== undefined);
  const before = impatient.latest();
  await until('another one has ended', () => impatient.latest() !== before);
  t.pass();
});
