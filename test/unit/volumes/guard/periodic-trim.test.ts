import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { MiB } from '../../../../src/units.ts';
import { trimDue } from '../../../../src/volumes/guard/periodic-trim.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

const hourMs = 3_600_000;

test('once a day each mounted volume that is to be trimmed is, also when another one cannot be', async (t) => {
  const node = await fakeNode(t);
  let nowMs = 0;
  const { volumes, domain } = await node.open([node.settings('a')], { now: () => nowMs });
  for (const [name, trim] of [
    ['one', 'periodic'],
    ['two', 'periodic'],
    ['never', 'off'],
    ['at-once', 'online'],
  ] as const) {
    const settings = { ...plainSettings, trim };
    const input = volumeInput(name, { sizeBytes: 16n * MiB, settings });
    const { record } = await volumes.createVolume(call(), input);
    const stagingTargetPath = join(node.directory, name);
    await mkdir(stagingTargetPath);
    const asked = { volumeId: record.id, stagingTargetPath, capability: capability() };
    await volumes.stageVolume(call(), asked);
  }
  const seen = new Map<string, number>();
  const trimsAfter = async (hours: number): Promise<number> => {
    const from = node.host.calls.length;
    nowMs += hours * hourMs;
    await trimDue(domain, seen);
    return node.host.calls.slice(from).filter((name) => name === 'mounts.trim').length;
  };
  t.is(await trimsAfter(0), 0, 'seen for the first time');
  t.is(await trimsAfter(23), 0);
  node.host.failNext('mounts.trim', new KernelError('FITRIM', 'EIO', 'a test'));
  t.is(await trimsAfter(1), 2);
  t.is(await trimsAfter(1), 0);
  t.is(await trimsAfter(23), 2);
});
