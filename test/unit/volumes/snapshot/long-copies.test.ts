import { mkdir, readdir, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { MiB } from '../../../../src/units.ts';
import { DiskState } from '../../../helpers/disk-state.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

const disk = await DiskState.watch();
test.after.always(() => {
  disk.end();
});

/** The copy progress need not be durable: without it, more is copied again. */
const isNote = (path: string): boolean => path.endsWith('/copy.json');

/** A volume that appears to have much data, so that its snapshot is copied in the background, by a copy that the test controls. */
async function nodeWith(t: ExecutionContext) {
  const node = await fakeNode(t);
  const { files, copies } = node.host;
  const imageStatus = files.imageStatus.bind(files);
  files.imageStatus = async (path) => {
    const status = await imageStatus(path);
    return path.endsWith('disk.img') ? { ...status, allocatedBytes: 300n * MiB } : status;
  };
  const copySparse = copies.copySparse.bind(copies);
  let resume = (): void => undefined;
  let mayCopy = new Promise<void>((resolve) => {
    resume = resolve;
  });
  copies.copySparse = async (from, to, options) => {
    await Promise.race([
      mayCopy,
      new Promise<never>((_resolve, reject) => {
        options.signal.addEventListener('abort', () => {
          reject(new Error('stopped'));
        });
      }),
    ]);
    await copySparse(from, to, options);
  };
  const snapshots = join(node.directory, 'a', 'snapshots');
  const unsynced: string[] = [];
  const open = () =>
    node.open([node.settings('a')], {
      reached: (point) => {
        if (point === 'copy:renamed') unsynced.push(...disk.unsyncedIn(snapshots, isNote));
      },
    });
  const opened = await open();
  const input = volumeInput('v', { sizeBytes: 512n * MiB });
  const volumeId = (await opened.volumes.createVolume(call(), input)).record.id;
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  return {
    node,
    opened,
    open,
    volumeId,
    image: join(node.directory, 'a', 'volumes', volumeId, 'disk.img'),
    snapshots,
    /** Files that were not durable when a copied image was renamed. */
    unsynced,
    snapshot: ({ volumes } = opened) =>
      volumes.createSnapshot(call(), {
        name: 's',
        sourceVolumeId: volumeId,
        settings: { freeze: false },
        parameters: {},
      }),
    stage: () =>
      opened.volumes.stageVolume(call(), { volumeId, stagingTargetPath, capability: capability() }),
    resume: () => {
      mayCopy = Promise.resolve();
      resume();
    },
  };
}

test('a long copy runs in the background: its source is locked meanwhile, and it is ready when it is durable', async (t) => {
  const { opened, volumeId, snapshot, snapshots, stage, resume, unsynced } = await nodeWith(t);
  const { record } = await snapshot();
  t.is(record.state, 'copying');
  t.is(await reasonOf(stage()), 'busy');
  t.is(await reasonOf(opened.volumes.deleteVolume(call(), volumeId)), 'busy');
  t.is((await snapshot()).record.state, 'copying', 'repeated call');
  resume();
  await opened.domain.snapshotCopies.whenIdle();
  const ready = await snapshot();
  t.deepEqual([ready.record.state, ready.record.copy], ['ready', null]);
  t.deepEqual((await readdir(join(snapshots, record.id))).sort(), ['disk.img', 'snapshot.json']);
  t.is((await stat(join(snapshots, record.id, 'disk.img'))).mode & 0o777, 0o400);
  t.deepEqual(unsynced, []);
  t.true(disk.isSynced(join(snapshots, record.id, 'snapshot.json')));
  t.is(await reasonOf(stage()), 'ok');
});

test('a copy that a stop interrupted is resumed at the next start', async (t) => {
  const { opened, open, snapshot, resume } = await nodeWith(t);
  await snapshot();
  await opened.close(100);
  resume();
  const again = await open();
  await again.domain.snapshotCopies.whenIdle();
  t.is((await snapshot(again)).record.state, 'ready');
});

test('a copy whose source may have changed since is removed, not resumed', async (t) => {
  const { opened, open, image, snapshots, snapshot } = await nodeWith(t);
  await snapshot();
  await opened.close(100);
  await utimes(image, new Date(), new Date(0));
  const again = await open();
  await again.domain.trash.whenIdle();
  t.deepEqual(await readdir(snapshots), []);
});

test('a copy that fails is removed and the reason is reported', async (t) => {
  const { node, opened, snapshots, snapshot, stage } = await nodeWith(t);
  node.host.copies.copySparse = (from) => Promise.reject(new KernelError('read', 'EIO', from));
  const { record } = await snapshot();
  const { domain } = opened;
  await domain.snapshotCopies.whenIdle();
  await domain.trash.whenIdle();
  t.regex(
    domain.snapshotCopies.failureOf(record.id) ?? '',
    /^snapshot 's\.[0-9a-f]{8}': read \S+: EIO; the disk of pool 'a' has failed: check the disk/,
  );
  t.deepEqual(await readdir(snapshots), []);
  t.is(await reasonOf(stage()), 'ok', 'its source is unlocked');
});

test('deleting a snapshot aborts its copy', async (t) => {
  const { opened, snapshots, snapshot, stage } = await nodeWith(t);
  const { record } = await snapshot();
  await opened.volumes.deleteSnapshot(call(), record.id);
  await opened.domain.trash.whenIdle();
  t.deepEqual(await readdir(snapshots), []);
  t.is(await reasonOf(stage()), 'ok');
});
