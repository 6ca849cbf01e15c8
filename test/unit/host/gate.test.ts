import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { StuckError } from '../../../src/host/errors.ts';
import { Gate, ownedBy } from '../../../src/host/gate.ts';

/** A call that returns when it is told to. */
class Hanging {
  readonly started: Promise<void>;
  #start: () => void = () => undefined;
  #end: (value: string) => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;

  constructor() {
    this.started = new Promise((resolve) => {
      this.#start = resolve;
    });
  }

  readonly work = (): Promise<string> => {
    this.#start();
    return new Promise((resolve, reject) => {
      this.#end = resolve;
      this.#fail = reject;
    });
  };

  end(value = 'done'): void {
    this.#end(value);
  }

  fail(error: Error): void {
    this.#fail(error);
  }
}

const quick = () => Promise.resolve('quick');

/** A gate that lets nothing through would keep a test waiting for ever. */
const boundMs = 10_000;

test('one call at a time for an owner, in order; other owners do not wait', async (t) => {
  t.timeout(boundMs);
  const gate = new Gate();
  const first = new Hanging();
  const order: string[] = [];
  const calls = ownedBy('a', () => [
    gate.run('first', first.work).then(() => order.push('first')),
    gate.run('second', quick).then(() => order.push('second')),
  ]);
  await first.started;
  t.is(await ownedBy('b', () => gate.run('other', quick)), 'quick');
  t.deepEqual(order, []);
  first.end();
  await Promise.all(calls);
  t.deepEqual(order, ['first', 'second']);
});

test('no more calls run at once than there are slots; a free one goes to who waits longest', async (t) => {
  t.timeout(boundMs);
  const gate = new Gate(2);
  const hanging = [new Hanging(), new Hanging(), new Hanging()] as const;
  const results = hanging.map((call, index) =>
    ownedBy(`owner ${index}`, () => gate.run('call', call.work)),
  );
  let hasStarted = false;
  void hanging[2].started.then(() => {
    hasStarted = true;
  });
  await Promise.all([hanging[0].started, hanging[1].started]);
  await new Promise(setImmediate);
  t.false(hasStarted);
  hanging[1].end();
  await hanging[2].started;
  hanging[0].end();
  hanging[2].end();
  t.deepEqual(await Promise.all(results), ['done', 'done', 'done']);
});

test('past its bound a call makes its owner stuck, until it returns', async (t) => {
  t.timeout(boundMs);
  const gate = new Gate();
  const hung = new Hanging();
  const late: string[] = [];
  const run = (call: string, work: () => Promise<string>) =>
    ownedBy('volume', () =>
      gate.run(call, work, { boundMs: 30, late: (value) => late.push(value) }),
    );
  const waiting = [run('umount', hung.work), run('next', quick)];
  for (const call of waiting) {
    await t.throwsAsync(call, {
      instanceOf: StuckError,
      message: /^umount for volume has not returned/,
    });
  }
  await t.throwsAsync(run('later', quick), {
    instanceOf: StuckError,
    message: /^umount for volume has not returned/,
  });
  t.deepEqual(
    gate.stuckOwners().map(({ owner, call }) => [owner, call]),
    [['volume', 'umount']],
  );
  t.is(await ownedBy('another', () => gate.run('call', quick)), 'quick');
  hung.end('too late');
  await new Promise(setImmediate);
  t.deepEqual([late, gate.stuckOwners()], [['too late'], []]);
  t.is(await run('again', quick), 'quick');
});

test('a stuck call that fails in the end is over as well', async (t) => {
  t.timeout(boundMs);
  const gate = new Gate();
  const hung = new Hanging();
  await t.throwsAsync(gate.run('mount', hung.work, { boundMs: 10 }), { instanceOf: StuckError });
  hung.fail(new Error('EIO'));
  await new Promise(setImmediate);
  t.is(await gate.run('mount', quick), 'quick');
});

test('stuck calls keep their slots; who waits for one is told within its bound', async (t) => {
  t.timeout(boundMs);
  const gate = new Gate(1);
  const hung = new Hanging();
  const stuck = ownedBy('a', () => gate.run('hung', hung.work, { boundMs: 10 }));
  await t.throwsAsync(stuck, { instanceOf: StuckError });
  const second = ownedBy('b', () => gate.run('stat', quick, { boundMs: 20 }));
  await t.throwsAsync(second, { instanceOf: StuckError, message: /waiting for its turn/ });
  t.deepEqual(
    gate.stuckOwners().map(({ owner }) => owner),
    ['a'],
    'waiting makes nobody stuck',
  );
  hung.end();
  t.is(await ownedBy('b', () => gate.run('stat', quick)), 'quick');
});

test('errors pass through, also those thrown before anything was waited for', async (t) => {
  t.timeout(boundMs);
  const gate = new Gate();
  const fail = () => {
    throw new Error('at once');
  };
  await t.throwsAsync(gate.run('call', fail), { message: 'at once' });
  await t.throwsAsync(
    gate.run('call', () => Promise.reject(new Error('later'))),
    { message: 'later' },
  );
  t.is(await gate.run('call', quick), 'quick');
});

test('a call that failed at once leaves nothing behind: its owner still has one call at a time', async (t) => {
  t.timeout(boundMs);
  const gate = new Gate();
  const run = (work: () => Promise<string>, ms?: number) =>
    ownedBy('volume', () => gate.run('call', work, { boundMs: ms }));
  const fail = () => {
    throw new Error('at once');
  };
  await t.throwsAsync(run(fail, 20), { message: 'at once' });
  const hanging = new Hanging();
  const first = run(hanging.work);
  await delay(60);
  let hasStarted = false;
  const second = run(() => {
    hasStarted = true;
    return quick();
  });
  await new Promise(setImmediate);
  t.false(hasStarted);
  hanging.end();
  t.deepEqual(await Promise.all([first, second]), ['done', 'quick']);
});

test('calls without an owner are the driver’s', async (t) => {
  t.timeout(boundMs);
  const gate = new Gate();
  await t.throwsAsync(gate.run('call', new Hanging().work, { boundMs: 5 }), {
    message: /for driver/,
  });
});

test('what stands on one ground holds its share of the slots at most', async (t) => {
  t.timeout(boundMs);
  const gate = new Gate(4, 2);
  const hanging = [new Hanging(), new Hanging(), new Hanging()] as const;
  const results = hanging.map((call, index) =>
    ownedBy(`hung ${index}`, () => gate.run('call', call.work), 'a disk that hangs'),
  );
  await Promise.all([hanging[0].started, hanging[1].started]);
  let hasStarted = false;
  void hanging[2].started.then(() => {
    hasStarted = true;
  });
  t.is(await ownedBy('other', () => gate.run('call', quick), 'another disk'), 'quick');
  t.is(await gate.run('call', quick), 'quick', 'nor do those who stand on none wait');
  t.false(hasStarted);
  hanging[0].end();
  await hanging[2].started;
  for (const call of hanging) call.end();
  t.deepEqual(await Promise.all(results), ['done', 'done', 'done']);
});

test('who is called stands on the ground of the caller', async (t) => {
  t.timeout(boundMs);
  const gate = new Gate(4, 1);
  const hanging = new Hanging();
  const first = ownedBy(
    'pool',
    () => ownedBy('a device', () => gate.run('call', hanging.work)),
    'disk',
  );
  await hanging.started;
  const second = ownedBy('volume', () => gate.run('call', quick, { boundMs: 20 }), 'disk');
  await t.throwsAsync(second, { instanceOf: StuckError });
  hanging.end();
  t.is(await first, 'done');
});

test('calls side by side count as many as they are, and are not passed by later ones', async (t) => {
  t.timeout(boundMs);
  const gate = new Gate(3);
  const first = new Hanging();
  const three = new Hanging();
  const later = new Hanging();
  const one = ownedBy('a', () => gate.run('one', first.work));
  await first.started;
  const all = ownedBy('b', () => gate.run('three', three.work, { threads: 3 }));
  const last = ownedBy('c', () => gate.run('later', later.work));
  let haveAll = false;
  void three.started.then(() => {
    haveAll = true;
  });
  await later.started;
  t.false(haveAll, 'one of three threads is taken');
  later.end();
  await last;
  const behind = new Hanging();
  const waiting = ownedBy('d', () => gate.run('behind', behind.work, { threads: 3 }));
  first.end();
  await one;
  await three.started;
  three.end();
  await all;
  await behind.started;
  behind.end();
  await waiting;
  t.deepEqual(gate.stuckOwners(), []);
});

test('who waits for several threads is not passed by who waits for one', async (t) => {
  t.timeout(boundMs);
  const gate = new Gate(2);
  const [one, other, both] = [new Hanging(), new Hanging(), new Hanging()];
  const running = [
    ownedBy('a', () => gate.run('one', one.work)),
    ownedBy('b', () => gate.run('other', other.work)),
  ];
  const order: string[] = [];
  const wide = ownedBy('c', () => gate.run('both', both.work, { threads: 2 }));
  void both.started.then(() => order.push('both'));
  const narrow = ownedBy('d', () => gate.run('later', quick)).then(() => order.push('later'));
  one.end();
  await running[0];
  await new Promise(setImmediate);
  t.deepEqual(order, [], 'one thread is free, and kept for who came first');
  other.end();
  await both.started;
  both.end();
  await Promise.all([...running, wide, narrow]);
  t.deepEqual(order, ['both', 'later']);
});

test('more calls side by side than there are threads take all of them', async (t) => {
  t.timeout(boundMs);
  const gate = new Gate(2);
  t.is(await gate.run('many', quick, { threads: 9 }), 'quick');
  t.is(await gate.run('one', quick), 'quick');
});
