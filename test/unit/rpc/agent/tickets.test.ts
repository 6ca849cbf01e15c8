import { status } from '@grpc/grpc-js';
import test from 'ava';
import { Tickets } from '../../../../src/rpc/agent/tickets.ts';
import { StatusError } from '../../../../src/rpc/status.ts';
import type { SentCopy } from '../../../../src/volumes/model.ts';

const copy: SentCopy = { source: { kind: 'snapshot', id: 'snap.0123abcd' }, copyName: 'pvc-1' };

function codeOfUse(tickets: Tickets, ticket: string, peer: string, used = copy): string {
  try {
    tickets.require(ticket, { copy: used, peer });
    return 'OK';
  } catch (error) {
    return error instanceof StatusError ? status[error.code] : String(error);
  }
}

test('a ticket is for one copy of one source and one node, however its address is written', (t) => {
  const tickets = new Tickets();
  const ticket = tickets.issue(copy, ['10.0.0.7', 'FD00::7']);
  t.is(codeOfUse(tickets, ticket, '10.0.0.7:40000'), 'OK');
  t.is(codeOfUse(tickets, ticket, '::ffff:10.0.0.7:40000'), 'OK');
  t.is(codeOfUse(tickets, ticket, '[fd00::7]:40000'), 'OK');
  t.is(codeOfUse(tickets, ticket, 'fd00::7:40000'), 'OK');
  for (const peer of ['10.0.0.8:40000', '10.0.0.77:1', 'fd00::8:1', 'unknown', '']) {
    t.is(codeOfUse(tickets, ticket, peer), 'PERMISSION_DENIED', peer);
  }
  for (const other of [
    { ...copy, source: { kind: 'snapshot', id: 'other.0123abcd' } },
    { ...copy, source: { kind: 'volume', id: copy.source.id } },
    { ...copy, copyName: 'pvc-2' },
  ] satisfies readonly SentCopy[]) {
    t.is(codeOfUse(tickets, ticket, '10.0.0.7:1', other), 'PERMISSION_DENIED');
  }
  t.is(codeOfUse(tickets, '', '10.0.0.7:1'), 'UNAUTHENTICATED');
  t.is(codeOfUse(tickets, `${ticket}x`, '10.0.0.7:1'), 'UNAUTHENTICATED');
  t.is(codeOfUse(new Tickets(), ticket, '10.0.0.7:1'), 'UNAUTHENTICATED', 'after a restart');
});

test('a ticket is valid for six hours; a later one does not end an earlier one', (t) => {
  let nowMs = 0;
  const tickets = new Tickets(() => nowMs);
  const first = tickets.issue(copy, ['10.0.0.7']);
  nowMs = 5 * 3_600_000;
  const second = tickets.issue(copy, ['10.0.0.7']);
  t.not(first, second);
  t.is(codeOfUse(tickets, first, '10.0.0.7:1'), 'OK');
  nowMs = 6 * 3_600_000 + 1;
  t.is(codeOfUse(tickets, first, '10.0.0.7:1'), 'UNAUTHENTICATED');
  t.is(codeOfUse(tickets, second, '10.0.0.7:1'), 'OK');
});

test('the oldest of more than ten thousand tickets is forgotten', (t) => {
  const tickets = new Tickets();
  const first = tickets.issue(copy, ['10.0.0.7']);
  for (let index = 0; index < 10_000; index += 1) tickets.issue(copy, ['10.0.0.7']);
  const last = tickets.issue(copy, ['10.0.0.7']);
  t.is(codeOfUse(tickets, first, '10.0.0.7:1'), 'UNAUTHENTICATED');
  t.is(codeOfUse(tickets, last, '10.0.0.7:1'), 'OK');
});
