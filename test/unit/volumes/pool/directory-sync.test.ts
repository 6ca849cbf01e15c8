import test from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { makeFiles } from '../../../../src/host/files/files.ts';
import { driverLane } from '../../../../src/host/lane.ts';
import { DirectorySync } from '../../../../src/volumes/pool/directory-sync.ts';
import { changedHost } from '../../../helpers/changed-host.ts';
import { FakeHost } from '../../../helpers/fake-host.ts';

/** Directories whose fsyncs end when the test says so. */
async function openDirectories() {
  const rounds: { area: string; lane: string; end: (error?: Error) => void }[] = [];
  const pool = { name: 'a', directoryOf: () => '/tmp' };
  const host = changedHost(new FakeHost(), ({ lane: { name: lane } }) => ({
    files: {
      ...makeFiles(driverLane),
      syncOpenDirectory: () =>
        new Promise((resolve, reject) => {
          const end = (error?: Error) => (error === undefined ? resolve() : reject(error));
          rounds.push({ area: lane.split('/')[1] ?? '', lane, end });
        }),
    },
  }));
  const made = await DirectorySync.open(['volumes', 'trash'], pool, { host });
  return { made, rounds };
}

/** Lets all pending callbacks run. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

test('callers that arrive while an fsync runs share the next one, which starts after they arrived', async (t) => {
  const { made, rounds } = await openDirectories();
  const ended: string[] = [];
  const sync = async (name: string): Promise<void> => {
    await made.sync('volumes');
    ended.push(name);
  };
  const all = [sync('first'), sync('second'), sync('third')];
  await turn();
  t.is(rounds.length, 1);
  rounds[0]?.end();
  await turn();
  t.deepEqual(ended, ['first']);
  t.is(rounds.length, 2);
  const fourth = sync('fourth');
  rounds[1]?.end();
  await turn();
  t.deepEqual(ended, ['first', 'second', 'third']);
  t.is(rounds.length, 3);
  rounds[2]?.end();
  await Promise.all([...all, fourth]);
  await made.close();
});

test('a failed fsync fails the callers that share it, and no other caller', async (t) => {
  const { made, rounds } = await openDirectories();
  const [first, second] = [made.sync('volumes'), made.sync('volumes')];
  rounds[0]?.end(new KernelError('fsync', 'EIO', 'volumes'));
  await t.throwsAsync(first, { message: /EIO/ });
  await turn();
  rounds[1]?.end();
  await t.notThrowsAsync(second);
  await made.close();
});

test('several directories are synced concurrently, each in its lane; a failure is thrown after all have ended', async (t) => {
  const { made, rounds } = await openDirectories();
  let isOver = false;
  const both = made.sync('volumes', 'trash').finally(() => {
    isOver = true;
  });
  await turn();
  t.deepEqual(
    rounds.map(({ lane }) => lane),
    ['directory a/volumes', 'directory a/trash'],
  );
  rounds[0]?.end(new KernelError('fsync', 'EIO', 'volumes'));
  await turn();
  t.false(isOver);
  rounds[1]?.end();
  await t.throwsAsync(both, { message: /EIO/ });
  await t.throwsAsync(made.sync('groups'), { message: /no open directory 'groups'/ });
  await made.close();
});
