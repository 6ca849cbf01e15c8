import test from 'ava';
import { VolumeError } from '../../../../src/errors.ts';
import type { Host } from '../../../../src/host/host.ts';
import { Gate } from '../../../../src/host/kernel/gate.ts';
import { createLog } from '../../../../src/observe/log.ts';
import { inLane, type LaneSpec } from '../../../../src/volumes/engine/lanes.ts';
import {
  type Call,
  type Operation,
  Operations,
} from '../../../../src/volumes/engine/operations.ts';
import { FakeHost } from '../../../helpers/fake-host.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { until } from '../../../helpers/until.ts';

const log = createLog({ level: 'silent' });
const callOf = (signal = new AbortController().signal): Call => ({ signal, log });
const laneOf = (id: string): LaneSpec => ({ kind: 'volume', id });
const v = laneOf('v');
const w = laneOf('w');
const deps = { host: new FakeHost() as Host };
const newOperations = (): Operations => new Operations();
const plan = (request?: unknown) =>
  ({ name: 'CreateVolume', lane: v, exclusive: ['volume:v'], request }) as const;

/** A step that waits until the test resumes it. */
function gate(): { readonly passed: Promise<void>; readonly open: () => void } {
  let open = (): void => undefined;
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { passed, open };
}

test('an equal request joins the running operation and gets its result', async (t) => {
  const operations = newOperations();
  const { passed, open } = gate();
  let runs = 0;
  const work = async (): Promise<number> => {
    runs += 1;
    await passed;
    return runs;
  };
  const first = operations.run(deps, callOf(), plan({ name: 'v', size: 1n }), work);
  const second = operations.run(deps, callOf(), plan({ name: 'v', size: 1n }), work);
  open();
  t.deepEqual(await Promise.all([first, second]), [1, 1]);
});

test('a different request for the same id is busy, as is a request that cannot be compared', async (t) => {
  const operations = newOperations();
  const { passed, open } = gate();
  const first = operations.run(deps, callOf(), plan({ size: 1n }), () => passed);
  t.is(await reasonOf(operations.run(deps, callOf(), plan({ size: 2n }), async () => 1)), 'busy');
  t.is(await reasonOf(operations.run(deps, callOf(), plan(), async () => 1)), 'busy');
  open();
  await first;
  t.is(await reasonOf(operations.run(deps, callOf(), plan({ size: 2n }), async () => 1)), 'ok');
});

test('readers share a lock, a writer is refused, and the locks are released when the work has ended', async (t) => {
  const operations = newOperations();
  const { passed, open } = gate();
  const read = (id: string): Promise<void> =>
    operations.run(
      deps,
      callOf(),
      { name: 'Copy', lane: laneOf(id), shared: ['volume:v'] },
      () => passed,
    );
  const readers = [read('a'), read('b')];
  t.is(await reasonOf(operations.run(deps, callOf(), plan(), async () => 1)), 'busy');
  open();
  await Promise.all(readers);
  t.is(operations.locks.size, 0);
  t.is(await reasonOf(operations.run(deps, callOf(), plan(), async () => 1)), 'ok');
});

test('a caller that cancels before the first effect stops the work', async (t) => {
  const operations = newOperations();
  const { passed, open } = gate();
  const abort = new AbortController();
  let hadEffects = false;
  const run = operations.run(deps, callOf(abort.signal), plan({}), async (_deps, operation) => {
    await passed;
    operation.beginEffects();
    hadEffects = true;
  });
  abort.abort();
  t.is(await reasonOf(run), 'cancelled');
  open();
  await operations.drain(1_000);
  t.false(hadEffects);
});

test('a caller that cancels later ends only its wait: the work continues and a retry joins it', async (t) => {
  const operations = newOperations();
  const { passed, open } = gate();
  const abort = new AbortController();
  const work = async (_deps: unknown, operation: Operation): Promise<string> => {
    operation.beginEffects();
    await passed;
    return 'made';
  };
  const first = operations.run(deps, callOf(abort.signal), plan({}), work);
  abort.abort();
  t.is(await reasonOf(first), 'cancelled');
  const retry = operations.run(deps, callOf(), plan({}), work);
  open();
  t.is(await retry, 'made');
});

test('a delete aborts the create of the same id, and nothing else', async (t) => {
  const operations = newOperations();
  const { passed, open } = gate();
  const signals: AbortSignal[] = [];
  const run = operations.run(deps, callOf(), plan({}), async (_deps, { signal }) => {
    signals.push(signal);
    await passed;
  });
  operations.abort(v, 'NodeStageVolume', 'no');
  operations.abort(w, 'CreateVolume', 'no');
  t.deepEqual(
    signals.map(({ aborted }) => aborted),
    [false],
  );
  operations.abort(v, 'CreateVolume', 'deleted');
  t.deepEqual(
    signals.map(({ aborted }) => aborted),
    [true],
  );
  open();
  await run;
});

test('once drain has begun nothing new starts, and work past the time limit is aborted', async (t) => {
  const operations = newOperations();
  const run = operations.run(deps, callOf(), plan({}), async (_deps, { signal }) => {
    await new Promise<void>((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        reject(new VolumeError('cancelled', 'stopped'));
      });
    });
  });
  const ended = reasonOf(run);
  await operations.drain(10);
  t.is(await ended, 'cancelled');
  t.is(await reasonOf(operations.run(deps, callOf(), plan({}), async () => 1)), 'unavailable');
});

test('work that fails releases its locks', async (t) => {
  const operations = newOperations();
  const fail = async (): Promise<never> => {
    throw new VolumeError('no-space', 'full');
  };
  t.is(await reasonOf(operations.run(deps, callOf(), plan({}), fail)), 'no-space');
  t.is(operations.locks.size, 0);
  t.is(operations.runningCount, 0);
});

test('the progress of running work is returned by lane', async (t) => {
  const operations = newOperations();
  const { passed, open } = gate();
  const told = gate();
  t.is(operations.progressOf(v), undefined);
  const work = operations.run(deps, callOf(), plan(), async (_deps, operation) => {
    await Promise.resolve();
    operation.reportProgress(1n, 4n);
    operation.reportProgress(2n, 4n);
    told.open();
    await passed;
  });
  await told.passed;
  t.deepEqual(operations.progressOf(v), { doneBytes: 2n, totalBytes: 4n });
  t.is(operations.progressOf(w), undefined);
  open();
  await work;
  t.is(operations.progressOf(v), undefined);
});

test('locks are kept until every stuck call has returned, also one in another lane', async (t) => {
  const node = new Gate();
  const operations = new Operations((lane) => node.whenReturned(lane));
  const { passed, open } = gate();
  const snapshot = {
    name: 'CreateSnapshot',
    lane: { kind: 'snapshot', id: 's' },
    shared: ['volume:v'],
  } as const;
  const stuck = operations.run(deps, callOf(), snapshot, (domain) => {
    const { host } = inLane(domain, { kind: 'capture', id: 'v' });
    return node.run(host.lane, 'clone', () => passed, { timeoutMs: 20 });
  });
  t.is(await reasonOf(stuck), 'busy');
  t.is(await reasonOf(operations.run(deps, callOf(), plan(), async () => 1)), 'busy');
  t.is(operations.locks.lockedBy('volume:v'), 'CreateSnapshot');
  t.is(operations.runningCount, 0, 'an end of the driver does not wait for it');
  open();
  await until('the locks are given back', async () => operations.locks.size === 0);
  t.is(await reasonOf(operations.run(deps, callOf(), plan(), async () => 1)), 'ok');
  t.is(operations.locks.size, 0);
});

test('records that an operation had locked are read again after a call hung, before they are unlocked', async (t) => {
  const node = new Gate();
  const read = gate();
  const asked: (readonly string[])[] = [];
  const operations = new Operations(
    (lane) => node.whenReturned(lane),
    async (locks) => {
      asked.push(locks);
      await read.passed;
    },
  );
  const hanging = gate();
  const write = ({ host }: typeof deps) =>
    node.run(host.lane, 'replace', () => hanging.passed, { timeoutMs: 20 });
  t.is(await reasonOf(operations.run(deps, callOf(), plan(), write)), 'busy');
  t.deepEqual(asked, [], 'it may change still');
  hanging.open();
  await until('it is read', async () => asked.length > 0);
  t.deepEqual(asked, [['volume:v']]);
  t.is(await reasonOf(operations.run(deps, callOf(), plan(), async () => 1)), 'busy');
  read.open();
  await until('the locks are given back', async () => operations.locks.size === 0);
  // No call hung, so no record is read.
  t.is(await reasonOf(operations.run(deps, callOf(), plan(), async () => 1)), 'ok');
  t.is(asked.length, 1);
});

test('a lock outside of operations is released once the system calls of its lane have returned', async (t) => {
  let resume = (): void => undefined;
  const returned = new Promise<void>((resolve) => {
    resume = resolve;
  });
  const operations = new Operations((lane) => (lane === 'device v' ? returned : undefined));
  const release = operations.locks.acquire({ exclusive: ['volume:v'] }, 'a check');
  operations.releaseWhenReturned({ kind: 'device', id: 'v' }, release);
  t.is(operations.locks.lockedBy('volume:v'), 'a check');
  resume();
  await returned;
  await Promise.resolve();
  t.is(operations.locks.lockedBy('volume:v'), undefined);
  const other = operations.locks.acquire({ exclusive: ['volume:w'] }, 'a check');
  operations.releaseWhenReturned({ kind: 'device', id: 'w' }, other);
  t.is(operations.locks.lockedBy('volume:w'), undefined);
});

test('calls wait for a check of the driver itself, and equal ones then share one run', async (t) => {
  const operations = newOperations();
  const release = operations.locks.acquireForCheck({ exclusive: ['volume:v'] }, 'a check');
  let runs = 0;
  const work = async (): Promise<number> => {
    runs += 1;
    return runs;
  };
  const calls = [1, 2].map(() => operations.run(deps, callOf(), plan({ name: 'v' }), work));
  t.is(runs, 0);
  release?.();
  t.deepEqual(await Promise.all(calls), [1, 1]);
});

test('a call that waits for a check can be cancelled, and one that does not end makes it busy', async (t) => {
  const operations = newOperations();
  const release = operations.locks.acquireForCheck({ exclusive: ['volume:v'] }, 'a check');
  const lockedAtMs = performance.now();
  // A timer may expire a millisecond early; the lock is older than the wait in any case.
  await until('the lock has an age', () => performance.now() > lockedAtMs + 5);
  const aborted = new AbortController();
  const cancelled = operations.run(deps, callOf(aborted.signal), plan(), async () => 1);
  aborted.abort();
  const busy = operations.run(deps, callOf(), plan(), async () => 1);
  t.is(await reasonOf(cancelled), 'cancelled');
  await t.throwsAsync(busy, { message: /^a check is in progress for volume v, started 1 s ago/ });
  release?.();
  t.is(await operations.run(deps, callOf(), plan(), async () => 1), 1);
});

test('a check is skipped while a call has the lock', async (t) => {
  const { locks } = newOperations();
  const release = locks.acquire({ shared: ['volume:v'] }, 'CreateSnapshot');
  const check = () => locks.acquireForCheck({ exclusive: ['volume:v'] }, 'a check');
  t.is(check(), undefined);
  t.is(locks.checkOf({ exclusive: ['volume:v'] }), undefined);
  release();
  const end = check();
  t.truthy(end);
  end?.();
  t.is(locks.size, 0);
});
