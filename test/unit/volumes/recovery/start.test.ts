import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MiB } from '../../../../src/units.ts';
import { recoverEntries } from '../../../../src/volumes/recovery/recover-entries.ts';
import { changedHost } from '../../../helpers/changed-host.ts';
import type { FakeDevice } from '../../../helpers/fake-kernel.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

/** A node with one staged volume, whose driver has exited. */
async function stoppedNode(t: ExecutionContext) {
  const node = await fakeNode(t);
  const open = () => node.open([node.settings('a')]);
  const { volumes, ...opened } = await open();
  const { record } = await volumes.createVolume(call(), volumeInput('v'));
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const at = { volumeId: record.id, stagingTargetPath };
  await volumes.stageVolume(call(), { ...at, capability: capability() });
  await opened.close(100);
  const [device] = node.host.kernel.devices.values();
  if (device?.live === undefined) throw new Error('nothing is mounted');
  return { node, open, at, device, live: device.live };
}

const isFrozen = ({ live }: FakeDevice): boolean => live?.frozen === true;

test('a start thaws filesystems that a killed driver left frozen, before it serves any call', async (t) => {
  const { open, device, live, at } = await stoppedNode(t);
  live.frozen = true;
  const { volumes } = await open();
  t.false(isFrozen(device));
  await volumes.unstageVolume(call(), at);
});

test('a start recovers the devices of each volume in a lane of its own, so that one that hangs blocks no other', async (t) => {
  const { node, at, live } = await stoppedNode(t);
  live.frozen = true;
  const lanes: string[] = [];
  const host = changedHost(node.host, ({ lane, mounts }) => ({
    mounts: new Proxy(mounts, {
      get: (target, key) => {
        if (key === 'thaw') lanes.push(lane.name);
        const member: unknown = Reflect.get(target, key, target);
        return typeof member === 'function' ? (member.bind(target) as unknown) : member;
      },
    }),
  }));
  await node.open([node.settings('a')], { host });
  t.deepEqual(lanes, [`recover ${at.volumeId}`]);
});

test('a start thaws a filesystem that was unmounted while frozen, which keeps its device in use without a mount', async (t) => {
  const { node, open, device, live } = await stoppedNode(t);
  const stopUse = node.host.useElsewhere(device.number);
  node.host.kernel.mounts.length = 0;
  live.frozen = true;
  await open();
  t.false(isFrozen(device));
  t.deepEqual(await node.host.mounts.list(), [], 'the temporary mount is removed');
  stopUse();
});

test('a start detaches unused devices only', async (t) => {
  const { node, open, at } = await stoppedNode(t);
  const mounted = await open();
  t.is((await node.host.loops.list()).length, 1, 'it is mounted');
  await mounted.close(100);
  node.host.kernel.mounts.length = 0;
  for (const device of node.host.kernel.devices.values()) node.host.kernel.detachIfUnused(device);
  t.is((await node.host.loops.list()).length, 1);
  const { volumes } = await open();
  t.deepEqual(await node.host.loops.list(), []);
  await volumes.deleteVolume(call(), at.volumeId);
});

test('a start deletes an inline volume whose target does not exist', async (t) => {
  const node = await fakeNode(t);
  const open = () => node.open([node.settings('a')]);
  const { volumes, ...opened } = await open();
  const publish = async (name: string) => {
    const targetPath = join(node.directory, name);
    await volumes.publishVolume(call(), {
      volumeId: `csi-${name}`,
      stagingTargetPath: '',
      targetPath,
      capability: capability(),
      readOnly: false,
      ephemeral: { sizeBytes: 64n * MiB, settings: plainSettings },
    });
    return targetPath;
  };
  const [gone] = [await publish('gone'), await publish('stays')];
  await opened.close(100);
  node.host.reboot();
  await rm(gone, { recursive: true });
  const { domain } = await open();
  t.deepEqual(
    [...domain.pools.named('a').ephemerals.values()].map(({ name }) => name),
    ['csi-stays'],
  );
});

test('a start removes incomplete entries and empties the trash', async (t) => {
  const node = await fakeNode(t);
  const open = () => node.open([node.settings('a')]);
  const opened = await open();
  const [pool] = opened.domain.pools.all;
  const pathOf = (area: 'tmp' | 'trash') => join(node.directory, 'a', area, 'left');
  await opened.close(100);
  t.false(pool?.isServed);
  for (const area of ['tmp', 'trash'] as const) {
    await mkdir(pathOf(area));
    await writeFile(join(pathOf(area), 'disk.img'), Buffer.alloc(4096, 1));
  }
  let counted = -1n;
  const { domain } = await node.open([node.settings('a')], {
    reached: async (point) => {
      if (point === 'trash:removed')
        counted = (await domain.pools.named('a').space.facts()).trashBytes;
    },
  });
  await domain.trash.whenIdle();
  t.true(counted >= 4096n, String(counted));
  t.is((await domain.pools.named('a').space.facts()).trashBytes, 0n);
  for (const area of ['tmp', 'trash']) {
    t.deepEqual(await readdir(join(node.directory, 'a', area)), [], area);
  }
});

test('recovery of a pool that comes back skips a volume that a call has locked', async (t) => {
  const { node, open, at } = await stoppedNode(t);
  node.host.kernel.mounts.length = 0;
  const { domain } = await open();
  for (const device of node.host.kernel.devices.values()) node.host.kernel.detachIfUnused(device);
  t.is((await node.host.loops.list()).length, 1, 'it was locked');
  const pool = domain.pools.named('a');
  const lock = { exclusive: [`volume:${at.volumeId}`] };
  const release = domain.operations.locks.acquire(lock, 'a test');
  await recoverEntries(domain, pool);
  t.is((await node.host.loops.list()).length, 1);
  release();
  await recoverEntries(domain, pool);
  t.deepEqual(await node.host.loops.list(), []);
});
