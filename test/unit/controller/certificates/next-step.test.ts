import test from 'ava';
import type { AuthorityState } from '../../../../src/controller/certificates/authority-secret.ts';
import { bundleOf } from '../../../../src/controller/certificates/authority-secret.ts';
import { nextStep } from '../../../../src/controller/certificates/next-step.ts';
import { issueCertificate, makeAuthority } from '../../../../src/tls/authority.ts';
import type { Role } from '../../../../src/tls/roles.ts';

const driverName = 'loopcsi.io';
const dayMs = 24 * 60 * 60 * 1000;
const nowMs = Date.parse('2026-11-27T00:00:00Z');

async function certificatesOf(authority: AuthorityState) {
  const secretOf = async (role: Role) => ({
    bundle: bundleOf(authority),
    pair: await issueCertificate(authority.signing, { driverName, role }, { nowMs }),
  });
  const roleSecrets = { controller: await secretOf('controller'), agent: await secretOf('agent') };
  return { driverName, authority, roleSecrets };
}

test('the authority that ends soon signs once, and the next one takes over after a week', async (t) => {
  const signing = await makeAuthority({ nowMs, lifetimeMs: 20 * dayMs });
  const authority = { signing, next: await makeAuthority({ nowMs }) };
  const certificates = await certificatesOf(authority);
  const distributed = { ...authority, distributedAtMs: nowMs };
  t.deepEqual(nextStep(certificates, nowMs), { kind: 'write-authority', authority: distributed });
  const waiting = { ...certificates, authority: distributed };
  t.is(nextStep(waiting, nowMs + 6 * dayMs), undefined);
  t.deepEqual(nextStep(waiting, nowMs + 8 * dayMs), {
    kind: 'write-authority',
    authority: { signing: authority.next, previous: signing.certificate },
  });
});

test('when the authority has ended, the next one that is trusted already takes over at once', async (t) => {
  const signing = await makeAuthority({ nowMs, lifetimeMs: 3 * dayMs });
  const authority = { signing, next: await makeAuthority({ nowMs }) };
  const certificates = await certificatesOf(authority);
  t.deepEqual(nextStep(certificates, nowMs + 4 * dayMs), {
    kind: 'write-authority',
    authority: { signing: authority.next },
  });
  const alone = { ...certificates, authority: { signing } };
  t.deepEqual(nextStep(alone, nowMs + 4 * dayMs), { kind: 'make-authority' });
});
