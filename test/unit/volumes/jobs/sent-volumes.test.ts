import test from 'ava';
import { type OpenedSource, SentVolumes } from '../../../../src/volumes/jobs/sent-volumes.ts';
import { until } from '../../../helpers/until.ts';

/** Counts what is open. */
function counted() {
  const state = { opened: 0, closed: 0 };
  const open = async (): Promise<OpenedSource> => {
    state.opened += 1;
    const close = async (): Promise<void> => {
      state.closed += 1;
    };
    return { close } as unknown as OpenedSource;
  };
  return { state, open };
}

test('a capture is made once for a copy, also by calls at the same time, and kept between readings', async (t) => {
  const { state, open } = counted();
  const sent = new SentVolumes(() => undefined);
  const [one, two] = await Promise.all([sent.enter('v for a', open), sent.enter('v for a', open)]);
  t.is(one.opened, two.opened);
  const other = await sent.enter('v for b', open);
  t.deepEqual(state, { opened: 2, closed: 0 });
  for (const { leave } of [one, two, other]) await leave(true);
  t.is((await sent.enter('v for a', open)).opened, one.opened);
  t.deepEqual(state, { opened: 2, closed: 0 });
});

test('it is removed when its copy exists, but not while it is read', async (t) => {
  const { state, open } = counted();
  const sent = new SentVolumes(() => undefined);
  const { leave } = await sent.enter('v', open);
  await sent.close('v');
  t.is(state.closed, 0);
  await leave(true);
  await until('it is removed', () => state.closed === 1);
  t.is(sent.size, 0);
  await sent.close('v');
  t.is(state.closed, 1);
});

test('it is removed when nobody has read it for long', async (t) => {
  const { state, open } = counted();
  const sent = new SentVolumes(() => undefined, 50);
  await (await sent.enter('v', open)).leave(true);
  await until('it is removed', () => state.closed === 1);
  t.is(sent.size, 0);
});

test('it is removed when its last reader does not want it to be kept', async (t) => {
  const { state, open } = counted();
  const sent = new SentVolumes(() => undefined);
  const [one, two] = [await sent.enter('v', open), await sent.enter('v', open)];
  await one.leave(false);
  t.is(state.closed, 0);
  await two.leave(true);
  t.deepEqual(state, { opened: 1, closed: 1 });
  t.is(sent.size, 0);
});

test('a capture that fails is tried again by the next call, and one that cannot be removed is reported', async (t) => {
  const failed: string[] = [];
  const sent = new SentVolumes((key) => failed.push(key));
  const broken = async (): Promise<never> => {
    throw new Error('no');
  };
  await t.throwsAsync(sent.enter('v', broken), { message: 'no' });
  t.is(sent.size, 0);
  const { leave } = await sent.enter(
    'v',
    async () => ({ close: broken }) as unknown as OpenedSource,
  );
  await leave(true);
  await sent.closeAll();
  t.deepEqual(failed, ['v']);
  t.is(sent.size, 0);
});

test('a capture that is not the wanted one is replaced, also while it is read, and then removed when it is left', async (t) => {
  const { state, open } = counted();
  const sent = new SentVolumes(() => undefined);
  await sent.replaceUnless('v', () => false);
  const lost = await sent.enter('v', open);
  await sent.replaceUnless('v', () => true);
  t.is(sent.size, 1);
  await sent.replaceUnless('v', () => false);
  t.is(sent.size, 0);
  const next = await sent.enter('v', open);
  t.not(next.opened, lost.opened);
  t.deepEqual(state, { opened: 2, closed: 0 });
  await lost.leave(true);
  t.deepEqual(state, { opened: 2, closed: 1 }, 'the next one is not removed');
  await next.leave(true);
  t.is(sent.size, 1);
  await sent.replaceUnless('v', () => false);
  t.deepEqual(state, { opened: 2, closed: 2 });
});
