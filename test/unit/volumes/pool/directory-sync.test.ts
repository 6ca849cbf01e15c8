import test from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { makeFiles } from '../../../../src/host/files/files.ts';
import { Places } from '../../../../src/volumes/pool/directory-sync.ts';

/** Places whose fsyncs end when they are told to. */
async function places() {
  const rounds: { area: string; owner: string; end: (error?: Error) => void }[] = [];
  let owner = '';
  const pool = { name: 'a', pathOf: () => '/tmp' };
  const made = await Places.open(['volumes', 'trash'], pool, {
    ownedBy: (name, work) => {
      owner = name;
      return work();
    },
    host: {
      files: {
        ...makeFiles(),
        syncOpened: () =>
          new Promise((resolve, reject) => {
            const end = (error?: Error) => (error === undefined ? resolve() : reject(error));
            rounds.push({ area: owner.split(' ')[0] ?? '', owner, end });
          }),
      },
    },
  });
  return { made, rounds };
}

/** Lets everything go on that waits for nothing but its turn. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

test('callers that come while one fsync runs share the next one, which begins after them', async (t) => {
  const { made, rounds } = await places();
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

test('an fsync that fails is everybody’s who waited for it, and nobody else’s', async (t) => {
  const { made, rounds } = await places();
  const [first, second] = [made.sync('volumes'), made.sync('volumes')];
  rounds[0]?.end(new KernelError('fsync', 'EIO', 'volumes'));
  await t.throwsAsync(first, { message: /EIO/ });
  await turn();
  rounds[1]?.end();
  await t.notThrowsAsync(second);
  await made.close();
});

test('several places are synced side by side, each an owner; all have ended when one fails', async (t) => {
  const { made, rounds } = await places();
  let isOver = false;
  const both = made.sync('volumes', 'trash').finally(() => {
    isOver = true;
  });
  await turn();
  t.deepEqual(
    rounds.map(({ owner }) => owner),
    ['volumes of pool a', 'trash of pool a'],
  );
  rounds[0]?.end(new KernelError('fsync', 'EIO', 'volumes'));
  await turn();
  t.false(isOver);
  rounds[1]?.end();
  await t.throwsAsync(both, { message: /EIO/ });
  await t.throwsAsync(made.sync('groups'), { message: /no place 'groups'/ });
  await made.close();
});
