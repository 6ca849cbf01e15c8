import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { StuckError } from '../../../../src/host/errors.ts';
import { Gate } from '../../../../src/host/kernel/gate.ts';
import { driverLane, laneWithin, onDisk } from '../../../../src/host/lane.ts';

/** A call that returns on request. */
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

const lane = (name: string, disk?: string) => laneWithin(driverLane, name, disk);

const quick = () => Promise.resolve('quick');

/** A defective gate would block a test forever. */
const timeoutMs = 10_000;

test('a lane has one call at a time, in order; other lanes do not wait', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate();
  const first = new Hanging();
  const order: string[] = [];
  const calls = [
    gate.run(lane('a'), 'first', first.work).then(() => order.push('first')),
    gate.run(lane('a'), 'second', quick).then(() => order.push('second')),
  ];
  await first.started;
  t.is(await gate.run(lane('b'), 'other', quick), 'quick');
  t.deepEqual(order, []);
  first.end();
  await Promise.all(calls);
  t.deepEqual(order, ['first', 'second']);
});

test('no more calls run than there are slots; a free slot goes to the oldest waiter', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate(2);
  const hanging = [new Hanging(), new Hanging(), new Hanging()] as const;
  const results = hanging.map((call, index) => gate.run(lane(`lane ${index}`), 'call', call.work));
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

test('a call that exceeds its time limit makes its lane stuck until it returns', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate();
  const hung = new Hanging();
  const late: string[] = [];
  const run = (call: string, work: () => Promise<string>) =>
    gate.run(lane('volume'), call, work, { timeoutMs: 30, onLate: (value) => late.push(value) });
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
    gate.stuckCalls().map(({ lane, call }) => [lane, call]),
    [['volume', 'umount']],
  );
  t.is(await gate.run(lane('another'), 'call', quick), 'quick');
  hung.end('too late');
  await new Promise(setImmediate);
  t.deepEqual([late, gate.stuckCalls()], [['too late'], []]);
  t.is(await run('again', quick), 'quick');
});

test('the gate returns the age of the oldest call on a disk', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate();
  const [older, younger] = [new Hanging(), new Hanging()];
  const run = (name: string, disk: string, hung: Hanging) =>
    gate.run(lane(name, disk), 'fsync', hung.work);
  t.is(gate.oldestCallMs('pool'), 0);
  const first = run('a', 'pool', older);
  await delay(30);
  const second = run('b', 'pool', younger);
  t.true(gate.oldestCallMs('pool') >= 25);
  t.is(gate.oldestCallMs('another'), 0);
  older.end();
  await first;
  t.true(gate.oldestCallMs('pool') < 25);
  younger.end();
  await second;
  t.is(gate.oldestCallMs('pool'), 0);
});

test('a stuck call that fails has ended too', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate();
  const hung = new Hanging();
  await t.throwsAsync(gate.run(driverLane, 'mount', hung.work, { timeoutMs: 10 }), {
    instanceOf: StuckError,
  });
  hung.fail(new Error('EIO'));
  await new Promise(setImmediate);
  t.is(await gate.run(driverLane, 'mount', quick), 'quick');
});

test('stuck calls keep their slots; a waiter fails at its own time limit', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate(1);
  const hung = new Hanging();
  const stuck = gate.run(lane('a'), 'hung', hung.work, { timeoutMs: 10 });
  await t.throwsAsync(stuck, { instanceOf: StuckError });
  const second = gate.run(lane('b'), 'stat', quick, { timeoutMs: 20 });
  await t.throwsAsync(second, { instanceOf: StuckError, message: /waiting for its turn/ });
  t.deepEqual(
    gate.stuckCalls().map(({ lane }) => lane),
    ['a'],
    'waiting does not make a lane stuck',
  );
  hung.end();
  t.is(await gate.run(lane('b'), 'stat', quick), 'quick');
});

test('errors pass through, including synchronous ones', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate();
  const fail = () => {
    throw new Error('at once');
  };
  await t.throwsAsync(gate.run(driverLane, 'call', fail), { message: 'at once' });
  await t.throwsAsync(
    gate.run(driverLane, 'call', () => Promise.reject(new Error('later'))),
    { message: 'later' },
  );
  t.is(await gate.run(driverLane, 'call', quick), 'quick');
});

test('after a call that failed at once, its lane still has one call at a time', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate();
  const run = (work: () => Promise<string>, ms?: number) =>
    gate.run(lane('volume'), 'call', work, { timeoutMs: ms });
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

test('a message names the lane of the driver', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate();
  await t.throwsAsync(gate.run(driverLane, 'call', new Hanging().work, { timeoutMs: 5 }), {
    message: /for driver/,
  });
});

test('calls on one disk use at most their share of the slots', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate(4, 2);
  const hanging = [new Hanging(), new Hanging(), new Hanging()] as const;
  const results = hanging.map((call, index) =>
    gate.run(lane(`hung ${index}`, 'a disk that hangs'), 'call', call.work),
  );
  await Promise.all([hanging[0].started, hanging[1].started]);
  let hasStarted = false;
  void hanging[2].started.then(() => {
    hasStarted = true;
  });
  t.is(await gate.run(lane('other', 'another disk'), 'call', quick), 'quick');
  t.is(await gate.run(driverLane, 'call', quick), 'quick', 'calls without a disk do not wait');
  t.false(hasStarted);
  hanging[0].end();
  await hanging[2].started;
  for (const call of hanging) call.end();
  t.deepEqual(await Promise.all(results), ['done', 'done', 'done']);
});

test('a lane inherits the disk of the lane that started it', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate(4, 1);
  const hanging = new Hanging();
  const first = gate.run(laneWithin(lane('pool', 'disk'), 'a device'), 'call', hanging.work);
  await hanging.started;
  const second = gate.run(lane('volume', 'disk'), 'call', quick, { timeoutMs: 20 });
  await t.throwsAsync(second, { instanceOf: StuckError });
  hanging.end();
  t.is(await first, 'done');
});

test('a step with several calls gets the free threads, at least one', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate(3);
  const first = new Hanging();
  const granted: number[] = [];
  const one = gate.run(lane('a'), 'one', first.work);
  await first.started;
  const wide = new Hanging();
  const work = (threads: number): Promise<string> => {
    granted.push(threads);
    return wide.work();
  };
  const two = gate.run(lane('b'), 'three', work, { threads: 3 });
  await wide.started;
  let hasStarted = false;
  const other = gate.run(lane('c'), 'later', () => {
    hasStarted = true;
    return quick();
  });
  await new Promise(setImmediate);
  t.deepEqual([granted, hasStarted], [[2], false], 'both count');
  first.end();
  wide.end();
  await Promise.all([one, two, other]);
  await gate.run(driverLane, 'many', async (threads) => granted.push(threads), { threads: 9 });
  await gate.run(driverLane, 'none', async (threads) => granted.push(threads), { threads: 0 });
  t.deepEqual(granted, [2, 3, 1]);
});

test('several hung disks leave threads to the others', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate();
  const hung: Hanging[] = [];
  for (const disk of ['a', 'b', 'c', 'd']) {
    for (let index = 0; index < 50; index += 1) {
      const call = new Hanging();
      hung.push(call);
      void gate.run(lane(`${disk} ${index}`, disk), 'call', call.work);
    }
  }
  t.is(await gate.run(lane('e', 'another disk'), 'call', quick), 'quick');
  t.is(await gate.run(driverLane, 'call', quick), 'quick');
  // The timers of running calls would keep the process of this test alive.
  for (const call of hung) {
    await call.started;
    call.end();
  }
});

test('a call waiting for a hung disk does not block other calls of its lane', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate(4, 2);
  const hung = [new Hanging(), new Hanging()] as const;
  const results = hung.map((call, index) =>
    gate.run(lane(`volume ${index}`, 'hung'), 'call', call.work),
  );
  await Promise.all(hung.map(({ started }) => started));
  const behind = gate.run(lane('/dev/loop0', 'hung'), 'open', quick);
  t.is(await gate.run(lane('/dev/loop0', 'good'), 'open', quick), 'quick');
  for (const call of hung) call.end();
  t.is(await behind, 'quick');
  await Promise.all(results);
});

test('the disk of a lane can be set later', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate(4, 1);
  const hanging = new Hanging();
  const first = gate.run(onDisk(lane('new volume'), 'disk'), 'call', hanging.work);
  await hanging.started;
  const second = gate.run(lane('volume', 'disk'), 'call', quick, { timeoutMs: 20 });
  await t.throwsAsync(second, { instanceOf: StuckError });
  hanging.end();
  t.is(await first, 'done');
});

test('a must-run step runs after the stuck call has returned', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate();
  const hung = new Hanging();
  const order: string[] = [];
  const close = (name: string) => () => {
    order.push(name);
    return Promise.resolve();
  };
  const stuck = gate.run(lane('volume'), 'fsync', hung.work, { timeoutMs: 30 });
  // Its caller waits while its turn may still come.
  const waiting = gate.runEventually(lane('volume'), 'close', close('waited'));
  await t.throwsAsync(stuck, { instanceOf: StuckError });
  await waiting;
  await gate.runEventually(lane('volume'), 'close', close('came later'));
  t.deepEqual(order, [], 'the descriptor is still in use');
  await t.throwsAsync(gate.run(lane('volume'), 'stat', quick), { instanceOf: StuckError });
  hung.end();
  await new Promise(setImmediate);
  t.deepEqual(order, ['waited', 'came later']);
  t.deepEqual(gate.stuckCalls(), []);
});

test('a must-run step reports its own failure and its own time limit', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate();
  await t.throwsAsync(
    gate.runEventually(driverLane, 'close', () => Promise.reject(new Error('EIO'))),
    { message: 'EIO' },
  );
  await t.throwsAsync(
    gate.runEventually(driverLane, 'close', () => {
      throw new Error('at once');
    }),
    { message: 'at once' },
  );
  t.is(await gate.run(driverLane, 'stat', quick), 'quick');
});

test('stuck calls of a lane, and of lanes that it started, can be awaited', async (t) => {
  t.timeout(timeoutMs);
  const gate = new Gate();
  const hung = new Hanging();
  const capture = laneWithin(lane('snapshot x'), 'capture y');
  const stuck = gate.run(capture, 'clone', hung.work, { timeoutMs: 20 });
  t.is(gate.whenReturned('snapshot x'), undefined, 'it may still end in time');
  await t.throwsAsync(stuck, { instanceOf: StuckError });
  t.is(gate.whenReturned('y'), undefined);
  let isOver = false;
  const returned = gate.whenReturned('snapshot x')?.then(() => {
    isOver = true;
  });
  await new Promise(setImmediate);
  t.false(isOver);
  hung.end();
  await returned;
  t.true(isOver);
  t.is(gate.whenReturned('snapshot x'), undefined);
});
