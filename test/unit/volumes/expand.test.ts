import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { MiB } from '../../../src/units.ts';
import { fakeNode } from '../../helpers/fake-node.ts';
import { reasonOf } from '../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../helpers/scratch-node.ts';

const range = { requiredBytes: 32n * MiB, limitBytes: 0n };

for (const wrong of [{ kind: 'block' }, { fsType: 'xfs' }] as const) {
  test(`growing asked for with ${JSON.stringify(wrong)} is invalid and grows nothing`, async (t) => {
    const node = await fakeNode(t);
    const { volumes } = await node.open([node.settings('a')]);
    const input = volumeInput('v', { sizeBytes: 16n * MiB });
    const { record } = await volumes.createVolume(call(), input);
    const volumePath = join(node.directory, 'staging');
    await mkdir(volumePath);
    const at = { volumeId: record.id, stagingTargetPath: volumePath, capability: capability() };
    await volumes.stageVolume(call(), at);

    const asked = { volumeId: record.id, range, capability: capability(wrong) };
    t.is(await reasonOf(volumes.expandVolume(call(), asked)), 'invalid');
    t.is(await reasonOf(volumes.nodeExpandVolume(call(), { ...asked, volumePath })), 'invalid');
    t.is((await volumes.createVolume(call(), input)).record.sizeBytes, 16n * MiB);
  });
}
