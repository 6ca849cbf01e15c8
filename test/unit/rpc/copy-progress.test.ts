import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type { RpcCall } from '../../../src/rpc/call.ts';
import { orProgress } from '../../../src/rpc/copy-progress.ts';
import type { RunningCopy } from '../../../src/volumes/model.ts';
import { memoryLog } from '../../helpers/csi-server.ts';
import { fakeVolumes } from '../../helpers/fake-volumes.ts';

const copy: RunningCopy = {
  direction: 'receive',
  source: { kind: 'snapshot', id: 'snap.1' },
  copyName: 'new',
  peer: 'node-1',
  isWaiting: false,
  doneBytes: 3n << 30n,
  totalBytes: 8n << 30n,
};

const callUntil = (deadlineMs: number): RpcCall => ({
  ...{ log: memoryLog().log, signal: new AbortController().signal, peer: '', deadlineMs },
});

const never = new Promise<string>(() => undefined);

/** The end of a call for volume `new` whose deadline is soon, while these copies run. */
async function messageWith(...copies: readonly RunningCopy[]): Promise<string> {
  const { volumes } = fakeVolumes({ runningCopies: () => copies });
  const given = { volumes, name: 'new', call: callUntil(Date.now() + 40) };
  return Promise.race([
    orProgress(never, given).catch((error: unknown) => String(error)),
    delay(500, 'waits'),
  ]);
}

test('before its deadline, a caller is told how far the copy is, and from which node', async (t) => {
  t.regex(
    await messageWith(copy),
    /volume 'new': the copy of snapshot 'snap\.1' from node 'node-1' goes on: 37 %, 3 GiB of 8 GiB; repeat the call$/,
  );
  t.regex(await messageWith({ ...copy, totalBytes: 0n }), /node 'node-1' has begun; repeat/);
  t.regex(await messageWith({ ...copy, isWaiting: true }), /waits until others have ended/);
});

test('copies of other volumes, and those that another node makes, are not told', async (t) => {
  t.is(await messageWith(), 'waits');
  t.is(await messageWith({ ...copy, copyName: 'other' }), 'waits');
  t.is(await messageWith({ ...copy, direction: 'send' }), 'waits');
});

test('a volume that is made in time is the answer, and so is an error', async (t) => {
  const { volumes } = fakeVolumes({ runningCopies: () => [copy] });
  for (const deadlineMs of [Infinity, Date.now() + 60_000, Date.now() - 1, Date.now() + 1e12]) {
    const given = { volumes, name: 'new', call: callUntil(deadlineMs) };
    t.is(await orProgress(delay(5, 'made'), given), 'made');
    await t.throwsAsync(orProgress(Promise.reject(new Error('full')), given), { message: 'full' });
  }
});
