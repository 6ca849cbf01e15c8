import { readdirSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { GiB, MiB } from '../../../../src/units.ts';
import type { OpenedVolumes } from '../../../../src/volumes/open.ts';
import { DiskState } from '../../../helpers/disk-state.ts';
import { type FakeNode, fakeNode } from '../../../helpers/fake-node.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';

const disk = await DiskState.watch();
test.after.always(() => {
  disk.end();
});

/** Paths that need not be durable: unfinished and deleted entries, and node state, whose mounts end with a power cut too. */
const needNot =
  (pool: string) =>
  (path: string): boolean =>
    /^tmp\/|^trash|^lock$|\/node\.json$/.test(relative(pool, path));

/** A node in memory. All renames into place in its pool are checked. */
async function watchedNode(t: ExecutionContext): Promise<{ node: FakeNode; pool: string }> {
  const node = await fakeNode(t);
  const { files } = node.host;
  const rename = files.renameNoReplace.bind(files);
  files.renameNoReplace = async (from, to) => {
    if (dirname(dirname(from)).endsWith('/tmp') || dirname(from).endsWith('/tmp')) {
      t.deepEqual(disk.unsyncedIn(from), [], `whole on the disk before it is renamed to ${to}`);
    }
    await rename(from, to);
  };
  const pool = join(node.directory, 'a');
  const grow = files.growImage.bind(files);
  files.growImage = async (path, options) => {
    if (path.startsWith(join(pool, 'volumes'))) {
      t.deepEqual(disk.unsyncedIn(dirname(path)), [], 'the promised size is on the disk first');
    }
    await grow(path, options);
  };
  return { node, pool };
}

async function answered<T>(
  t: ExecutionContext,
  at: { what: string; pool: string },
  work: () => Promise<T>,
): Promise<T> {
  const result = await work();
  t.deepEqual(
    disk.unsyncedIn(at.pool, needNot(at.pool)),
    [],
    `${at.what}: durable when the call returns`,
  );
  return result;
}

test('the changes of a call are durable when it returns', async (t) => {
  const { node, pool } = await watchedNode(t);
  const at = (what: string) => ({ what, pool });
  const open = async (): Promise<OpenedVolumes> => node.open([node.settings('a')]);
  const opened = await open();
  // Empty directories contain no data.
  const made = (path: string): boolean => needNot(pool)(path) || path === join(pool, 'tmp');
  t.deepEqual(disk.unsyncedIn(pool, made), [], 'first start');
  const isLock = (path: string): boolean => path.endsWith('.lock');
  const remembered = disk.unsyncedIn(join(node.directory, 'state'), isLock);
  t.deepEqual(remembered, [], 'what the node remembers');
  const { volumes } = opened;
  const settings = { freeze: false };
  const make = (name: string, options: Parameters<typeof volumeInput>[1] = {}) =>
    answered(t, at(`create ${name}`), () =>
      volumes.createVolume(call(), volumeInput(name, { sizeBytes: 64n * MiB, ...options })),
    );
  const { record } = await make('mount');
  const { record: raw } = await make('block', { kind: 'block' });
  await make('clone', { source: { kind: 'volume', id: record.id } });
  const range = { requiredBytes: 128n * MiB, limitBytes: 0n };
  await answered(t, at('expand'), () =>
    volumes.expandVolume(call(), { volumeId: record.id, range }),
  );
  const taken = await answered(t, at('snapshot'), () =>
    volumes.createSnapshot(call(), {
      name: 'snap',
      sourceVolumeId: record.id,
      settings,
      parameters: {},
    }),
  );
  await make('restore', {
    sizeBytes: GiB,
    source: { kind: 'snapshot', id: taken.record.id },
  });
  const group = await answered(t, at('group'), () =>
    volumes.createGroupSnapshot(call(), {
      name: 'group',
      sourceVolumeIds: [record.id, raw.id],
      settings,
      parameters: {},
    }),
  );
  await answered(t, at('delete group'), () =>
    volumes.deleteGroupSnapshot(call(), group.record.id, group.record.snapshotIds),
  );
  await answered(t, at('delete snapshot'), () => volumes.deleteSnapshot(call(), taken.record.id));
  await answered(t, at('delete volume'), () => volumes.deleteVolume(call(), record.id));
});

test('blocks are freed only after the delete is durable, so that a power cut never restores a volume without its blocks', async (t) => {
  const { node, pool } = await watchedNode(t);
  const { volumes, domain } = await node.open([node.settings('a')]);
  const { record } = await volumes.createVolume(call(), volumeInput('v'));
  const { files } = node.host;
  const remove = files.removeInSlices.bind(files);
  const freed: string[] = [];
  files.removeInSlices = async (path, options) => {
    freed.push(path);
    for (const area of ['volumes', 'trash']) t.true(disk.isSynced(join(pool, area)), area);
    await remove(path, options);
  };
  await volumes.deleteVolume(call(), record.id);
  await domain.trash.whenIdle();
  t.is(freed.length, 1);
  t.deepEqual(readdirSync(join(pool, 'trash')), []);
});

test('a rename that a crash left unsynced is synced before any call is answered', async (t) => {
  const { node, pool } = await watchedNode(t);
  const killed = await node.open([node.settings('a')], {
    reached: (point) => {
      if (point === 'new:renamed') throw new Error('killed here');
    },
  });
  await t.throwsAsync(killed.volumes.createVolume(call(), volumeInput('v')));
  t.false(disk.isSynced(join(pool, 'volumes')));
  await killed.close(100);
  await node.open([node.settings('a')]);
  t.true(disk.isSynced(join(pool, 'volumes')));
});

test('an entry that an earlier attempt renamed is synced before the call returns', async (t) => {
  const { node, pool } = await watchedNode(t);
  const { files } = node.host;
  const rename = files.renameNoReplace.bind(files);
  const { volumes } = await node.open([node.settings('a')]);
  const input = volumeInput('v', { sizeBytes: 16n * MiB });
  const made = await volumes.createVolume(call(), input);
  await volumes.deleteVolume(call(), made.record.id);
  // As if the driver had died between rename and response, and had not found the entry when it started again.
  files.renameNoReplace = async (from, to) => {
    if (to === join(pool, 'volumes', made.record.id)) await cp(from, to, { recursive: true });
    await rename(from, to);
  };
  const { record } = await volumes.createVolume(call(), input);
  t.is(record.id, made.record.id);
  t.true(disk.isSynced(join(pool, 'volumes')));
});
