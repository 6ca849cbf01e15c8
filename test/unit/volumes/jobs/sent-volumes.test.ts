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
  t.is(one, two);
  await sent.enter('v for b', open);
  t.deepEqual(state, { opened: 2, closed: 0 });
  for (const key of ['v for a', 'v for a', 'v for b']) sent.leave(key);
  t.is(await sent.enter('v for a', open), one);
  t.deepEqual(state, { opened: 2, closed: 0 });
});

test('it is removed when its copy exists, but not while it is read', async (t) => {
  const { state, open } = counted();
  const sent = new SentVolumes(() => undefined);
  await sent.enter('v', open);
  await sent.close('v');
  t.is(state.closed, 0);
  sent.leave('v');
  await until('it is removed', () => state.closed === 1);
  t.is(sent.size, 0);
  await sent.close('v');
  t.is(state.closed, 1);
});

test('it is removed when nobody has read it for long', async (t) => {
  const { state, open } = counted();
  const sent = new SentVolumes(() => undefined, 50);
  await sent.enter('v', open);
  sent.leave('v');
  await until('it is removed', () => state.closed === 1);
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
  await sent.enter('v', async () => ({ close: broken }) as unknown as OpenedSource);
  sent.leave('v');
  await sent.closeAll();
  t.deepEqual(failed, ['v']);
  t.is(sent.size, 0);
});

test('a capture that is not the wanted one is removed, unless it is being read', async (t) => {
  const { state, open } = counted();
  const sent = new SentVolumes(() => undefined);
  t.false(await sent.closeUnless('v', () => false), 'there is none');
  await sent.enter('v', open);
  t.true(await sent.closeUnless('v', () => false), 'it is being read');
  sent.leave('v');
  await until('it is removed', () => state.closed === 1);
  await sent.enter('v', open);
  sent.leave('v');
  t.false(await sent.closeUnless('v', () => true));
  t.is(sent.size, 1);
  t.false(await sent.closeUnless('v', () => false));
  t.deepEqual(state, { opened: 2, closed: 2 });
});
