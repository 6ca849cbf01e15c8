import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

// Reading the tables costs more than the work itself: they grow with the node's mounts and devices.
for (const kind of ['mount', 'block'] as const) {
  test(`${kind}: no step of a life cycle reads the same state twice`, async (t) => {
    const node = await fakeNode(t);
    const { volumes } = await node.open([node.settings('a')]);
    const { calls } = node.host.watch;
    const steps: Record<string, readonly string[]> = {};
    const step = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
      const from = calls.length;
      const result = await work();
      steps[name] = calls.slice(from).map((one) => one.name);
      return result;
    };
    const input = volumeInput('v', { kind, sizeBytes: 16n * MiB });
    const { record } = await step('create', () => volumes.createVolume(call(), input));
    const stagingTargetPath = join(node.directory, 'staging');
    const targetPath = join(node.directory, 'target');
    await mkdir(stagingTargetPath);
    const at = { volumeId: record.id, stagingTargetPath, targetPath };
    const asked = { ...at, capability: capability({ kind }), readOnly: false };
    await step('stage', () => volumes.stageVolume(call(), asked));
    await step('publish', () => volumes.publishVolume(call(), asked));
    await step('unpublish', () => volumes.unpublishVolume(call(), at));
    await step('unstage', () => volumes.unstageVolume(call(), at));
    await step('delete', () => volumes.deleteVolume(call(), record.id));
    const count = (name: string, what: RegExp): number =>
      (steps[name] ?? []).filter((one) => what.test(one)).length;
    for (const name of ['stage', 'publish', 'unpublish', 'unstage']) {
      t.is(count(name, /^mounts\.(?:list|at)$/), 1, `${name}: the mount table`);
      t.is(count(name, /^loops\.(?:list|findByImage)$/), 1, `${name}: the loop devices`);
      t.is(count(name, /^files\.imageStatus$/), 1, `${name}: the image`);
    }
    t.is(count('delete', /^mounts\.|^loops\.list/), 0, 'delete: nothing is attached');
    t.is(count('delete', /^files\.syncOpenDirectory$/), 2, 'delete: both parents');
  });
}
