import { X509Certificate } from 'node:crypto';
import test from 'ava';
import { issueCertificate, makeAuthority } from '../../../src/tls/authority.ts';
import { roleOf } from '../../../src/tls/roles.ts';
import { makeCertificates } from '../../helpers/certificates.ts';

const dayMs = 24 * 60 * 60 * 1000;
const days = (certificate: X509Certificate) =>
  Math.round((Date.parse(certificate.validTo) - Date.parse(certificate.validFrom)) / dayMs);
const holder = { driverName: 'loopcsi.io', role: 'agent' } as const;

test('an authority lasts ten years, its certificates 90 days', async (t) => {
  const { authority, agent, controller } = await makeCertificates();
  const issuer = new X509Certificate(authority.certificate);
  t.true(issuer.ca);
  t.is(days(issuer), 3650);
  t.true(issuer.verify(issuer.publicKey));
  for (const [role, { certificate, key }] of Object.entries({ agent, controller })) {
    const leaf = new X509Certificate(certificate);
    t.is(days(leaf), 90);
    t.false(leaf.ca);
    t.true(leaf.checkIssued(issuer));
    t.true(leaf.verify(issuer.publicKey));
    t.is(roleOf(leaf, 'loopcsi.io').role, role as 'agent');
    t.regex(key, /^-----BEGIN PRIVATE KEY-----/);
  }
  // 1.3.6.1.5.5.7.3.1 is serverAuth, .2 clientAuth: a controller cannot pose as a server.
  t.deepEqual(new X509Certificate(agent.certificate).keyUsage, [
    '1.3.6.1.5.5.7.3.1',
    '1.3.6.1.5.5.7.3.2',
  ]);
  t.deepEqual(new X509Certificate(controller.certificate).keyUsage, ['1.3.6.1.5.5.7.3.2']);
});

test('authorities have different names, certificates different serial numbers', async (t) => {
  const [one, other] = await Promise.all([makeAuthority(), makeAuthority()]);
  t.not(
    new X509Certificate(one.certificate).subject,
    new X509Certificate(other.certificate).subject,
  );
  const serials = await Promise.all(
    [1, 2].map(
      async () =>
        new X509Certificate((await issueCertificate(one, holder)).certificate).serialNumber,
    ),
  );
  t.not(serials[0], serials[1]);
  for (const serial of serials) t.regex(serial, /^[4-7][0-9A-F]{31}$/);
});

test('a certificate does not outlive its authority, and an expired authority issues none', async (t) => {
  const authority = await makeAuthority({ lifetimeMs: 10 * dayMs });
  const leaf = new X509Certificate((await issueCertificate(authority, holder)).certificate);
  t.is(leaf.validTo, new X509Certificate(authority.certificate).validTo);
  const expired = await makeAuthority({ nowMs: Date.now() - 20 * dayMs, lifetimeMs: 10 * dayMs });
  await t.throwsAsync(issueCertificate(expired, holder), {
    message: /expired at .*make a new authority/,
  });
});

test('a key that does not belong to the authority is refused', async (t) => {
  const [one, other] = await Promise.all([makeAuthority(), makeAuthority()]);
  const mixed = { certificate: one.certificate, key: other.key };
  await t.throwsAsync(issueCertificate(mixed, holder), {
    message: /not the key of the certificate/,
  });
  const garbage = { certificate: one.certificate, key: 'garbage' };
  await t.throwsAsync(issueCertificate(garbage, holder), {
    message: /the authority cannot be used/,
  });
});
