import test from 'ava';
import {
  RefusalLog,
  refusalOf,
  refusalOfVerification,
} from '../../../../src/rpc/agent/refusals.ts';
import { memoryLog } from '../../../helpers/csi-server.ts';

const refusal = { reason: 'expired', problem: 'why' } as const;

test('each reason is logged once per address and ten minutes', (t) => {
  const { log, lines } = memoryLog();
  let nowMs = 0;
  const refusals = new RefusalLog(log, () => nowMs);
  for (const peer of ['a', 'a', 'b', 'a']) refusals.report(peer, refusal);
  refusals.report('a', { reason: 'no-role', problem: 'why' });
  t.is(lines.length, 3);
  nowMs += 599_000;
  refusals.report('a', refusal);
  t.is(lines.length, 3);
  nowMs += 2_000;
  refusals.report('a', refusal);
  t.is(lines.length, 4);
});

test('many addresses fill neither the log nor the memory', (t) => {
  const { log, lines } = memoryLog();
  let nowMs = 0;
  const refusals = new RefusalLog(log, () => nowMs);
  for (let index = 0; index < 10_000; index += 1) refusals.report(`fd00::${index}`, refusal);
  t.is(lines.length, 257);
  t.regex(lines.at(-1) ?? '', /further refused connections are only counted/);
  nowMs += 601_000;
  refusals.report('fd00::1', refusal);
  t.is(lines.length, 258);
});

test('errors have reasons', (t) => {
  const error = (code: string) => Object.assign(new Error('bad\n'), { code });
  t.is(refusalOf(error('ECONNRESET')), undefined);
  t.deepEqual(refusalOf(error('ERR_SSL_HTTP_REQUEST')), {
    reason: 'not-tls',
    problem: 'the TLS handshake failed: bad',
  });
  t.is(refusalOf(error('ERR_SSL_NEW'))?.reason, 'handshake-failed');
  // Node's type says Error, but the value is a code.
  const authorizationError = 'CERT_HAS_EXPIRED' as unknown as Error;
  t.is(refusalOfVerification({ authorizationError }).reason, 'expired');
});
