import { mkdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MiB } from '../../../../src/units.ts';
import { DiskState } from '../../../helpers/disk-state.ts';
import { type FakeNode, fakeNode } from '../../../helpers/fake-node.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';

const btrfsMagic = 0x9123683en;

const disk = await DiskState.watch();
test.after.always(() => {
  disk.end();
});

interface Rename {
  readonly entry: string;
  /** Whether the directory that the entry leaves was synced after the entry was made in it. */
  readonly isParentSynced: boolean;
}

/** A node whose pools report btrfs, and all renames out of a `tmp/`. */
async function btrfsNode(t: ExecutionContext): Promise<{ node: FakeNode; renames: Rename[] }> {
  const node = await fakeNode(t);
  const { files } = node.host;
  files.filesystemMagic = () => Promise.resolve(btrfsMagic);
  const renames: Rename[] = [];
  const rename = files.renameNoReplace.bind(files);
  files.renameNoReplace = async (from, to) => {
    const parent = dirname(from);
    if (basename(parent) === 'tmp') {
      renames.push({ entry: basename(from), isParentSynced: disk.isSynced(parent) });
    }
    await rename(from, to);
  };
  return { node, renames };
}

const unsynced = (renames: readonly Rename[]) => renames.filter((one) => !one.isParentSynced);

test('on btrfs `tmp/` is synced before a new entry is renamed out of it', async (t) => {
  const { node, renames } = await btrfsNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const options = { kind: 'block', sizeBytes: 16n * MiB } as const;
  const { record: first } = await volumes.createVolume(call(), volumeInput('first', options));
  const { record: second } = await volumes.createVolume(call(), volumeInput('second', options));
  const cut = { settings: { freeze: false }, parameters: {} };
  const source = { sourceVolumeId: first.id };
  await volumes.createSnapshot(call(), { name: 'snapshot', ...source, ...cut });
  const sources = { sourceVolumeIds: [first.id, second.id] };
  await volumes.createGroupSnapshot(call(), { name: 'group', ...sources, ...cut });
  t.is(renames.length, 6, 'two volumes, a snapshot, two members and their group');
  t.deepEqual(unsynced(renames), []);
});

test('on btrfs `tmp/` is synced before an interrupted copy in it is renamed', async (t) => {
  const { node, renames } = await btrfsNode(t);
  const killed = await node.open([node.settings('a')]);
  await killed.close(100);
  const entry = join(node.directory, 'a', 'tmp', 'left');
  await mkdir(entry);
  await writeFile(join(entry, 'disk.img'), 'bytes');
  const source = { snapshotId: 's.00000000', createdAtMs: 1, inode: '1:2' };
  const note = { schemaVersion: 1, volumeId: 'v.00000000', source, doneBytes: '4096' };
  await writeFile(join(entry, 'restore.json'), JSON.stringify(note));
  await node.open([node.settings('a')]);
  t.deepEqual(
    renames.map((one) => one.entry),
    ['left'],
  );
  t.deepEqual(unsynced(renames), []);
});
