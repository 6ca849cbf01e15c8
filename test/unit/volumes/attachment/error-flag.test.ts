import { truncate } from 'node:fs/promises';
import test from 'ava';
import { MiB } from '../../../../src/units.ts';
import { attachedOnly } from '../../../helpers/attached-only.ts';
import type { FakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';

test('a filesystem with an error flag is checked before its mount, while its image is detached', async (t) => {
  const { node, image, stage } = await attachedOnly(t);
  await node.host.changeImage(image, { state: 'has-errors' });
  const from = node.host.calls.length;
  t.is(await reasonOf(stage()), 'ok');
  const wanted = ['loops.detach', 'filesystems.ext4.check', 'loops.attach', 'mounts.mountDevice'];
  t.deepEqual(
    node.host.calls.slice(from).filter((name) => wanted.includes(name)),
    wanted,
  );
});

test('a filesystem in use in another mount namespace is not checked', async (t) => {
  const { node, image, stage } = await attachedOnly(t);
  await node.host.changeImage(image, { state: 'has-errors' });
  const [device] = await node.host.loops.list();
  const stopUse = node.host.useElsewhere(device?.number ?? -1);
  const from = node.host.calls.length;
  t.is(await reasonOf(stage()), 'ok');
  const after = node.host.calls.slice(from);
  t.false(after.includes('filesystems.ext4.check') || after.includes('loops.detach'));
  stopUse();
});

for (const [name, spoil] of [
  [
    'a filesystem that cannot be repaired',
    (node, image) => node.host.changeImage(image, { state: 'has-errors', damage: 'beyond' }),
  ],
  ['an image that was cut', (_node, image) => truncate(image, Number(MiB))],
  [
    'an image without a filesystem',
    (node, image) => node.host.changeImage(image, { fsType: 'xfs' }),
  ],
] as const satisfies readonly (readonly [
  string,
  (node: FakeNode, image: string) => Promise<void>,
])[]) {
  test(`${name} is not mounted`, async (t) => {
    const { node, image, stage } = await attachedOnly(t);
    await spoil(node, image);
    t.is(await reasonOf(stage()), 'wrong-state');
    t.false(node.host.calls.includes('mounts.mountDevice'));
  });
}
