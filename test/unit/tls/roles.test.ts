import test from 'ava';
import { findPeerProblem, roleOf, roleUri } from '../../../src/tls/roles.ts';

const found = (subjectAltName: string | undefined, ca = false) => {
  const { role, problem } = roleOf({ subjectAltName, ca }, 'loopcsi.io');
  return role ?? problem;
};

test('a role is one URI, compared exactly', (t) => {
  t.is(roleUri('loopcsi.io', 'agent'), 'loopcsi://loopcsi.io/agent');
  t.is(found('URI:loopcsi://loopcsi.io/agent'), 'agent');
  t.is(found('URI:loopcsi://loopcsi.io/controller'), 'controller');
  t.is(
    found('DNS:node-1, IP Address:10.0.0.1, URI:spiffe://a/b, URI:loopcsi://loopcsi.io/agent'),
    'agent',
  );
});

test('what is no role', (t) => {
  for (const none of [
    undefined,
    '',
    'DNS:loopcsi://loopcsi.io/controller',
    'email:loopcsi://loopcsi.io/controller',
    'URI:loopcsi://loopcsi.io/',
    'URI:loopcsi://loopcsi.io/controller/',
    'URI:loopcsi://loopcsi.io/admin',
    'URI:loopcsi://loopcsi.io/Agent',
    'URI:https://loopcsi.io/controller',
    // Names with separators are quoted by Node.
    'DNS:"a, URI:loopcsi://loopcsi.io/controller"',
    'DNS:"a\\", URI:loopcsi://loopcsi.io/controller"',
  ])
    t.is(found(none), 'no-role', none);
});

test('roles of other drivers', (t) => {
  t.is(found('URI:loopcsi://other.io/controller'), 'other-driver');
  t.is(found('URI:loopcsi://loopcsi.io.evil/controller'), 'other-driver');
  t.is(found('URI:LOOPCSI://loopcsi.io/controller'), 'other-driver');
  t.is(found('URI:loopcsi://LOOPCSI.io/controller'), 'other-driver');
});

test('two roles are none, and neither has an authority one', (t) => {
  t.is(
    found('URI:loopcsi://loopcsi.io/controller, URI:loopcsi://loopcsi.io/agent'),
    'several-roles',
  );
  t.is(found('URI:loopcsi://loopcsi.io/agent, URI:loopcsi://other.io/agent'), 'several-roles');
  t.is(found('URI:loopcsi://loopcsi.io/agent', true), 'ca-certificate');
});

test('the peer must have the expected role', (t) => {
  const certificate = { subjectAltName: 'URI:loopcsi://loopcsi.io/agent', ca: false };
  t.is(findPeerProblem(certificate, { driverName: 'loopcsi.io', role: 'agent' }), undefined);
  t.regex(
    findPeerProblem(certificate, { driverName: 'loopcsi.io', role: 'controller' })?.message ?? '',
    /has role agent, but controller is expected/,
  );
  t.regex(
    findPeerProblem(certificate, { driverName: 'other.io', role: 'agent' })?.message ?? '',
    /for loopcsi:\/\/loopcsi.io\/agent, not for other.io/,
  );
});
