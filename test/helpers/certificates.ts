import 'reflect-metadata';
import { createPrivateKey, webcrypto } from 'node:crypto';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import type { ExecutionContext } from 'ava';
import { issueCertificate, type KeyPair, makeAuthority } from '../../src/tls/authority.ts';
import { tlsFiles } from '../../src/tls/credentials.ts';
import type { Role } from '../../src/tls/roles.ts';

/** An authority with certificates for both roles of loopcsi.io. */
export interface Certificates {
  readonly authority: KeyPair;
  readonly controller: KeyPair;
  readonly agent: KeyPair;
}

export async function makeCertificates(): Promise<Certificates> {
  const authority = await makeAuthority();
  const issue = (role: Role) => issueCertificate(authority, { driverName: 'loopcsi.io', role });
  return { authority, controller: await issue('controller'), agent: await issue('agent') };
}

interface UnusualCertificate {
  /** The issuer; undefined for a self-signed certificate. */
  readonly issuer?: KeyPair;
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly isAuthority?: boolean;
  readonly commonName?: string;
  /** Object identifiers of the extended key usage; by default it has none. */
  readonly purposes?: readonly string[];
  /** Of the signature; SHA-256 by default. */
  readonly hash?: string;
  readonly rsaBits?: number;
}

export const purposes = {
  server: x509.ExtendedKeyUsage.serverAuth,
  client: x509.ExtendedKeyUsage.clientAuth,
  codeSigning: x509.ExtendedKeyUsage.codeSigning,
} as const;

const ecdsa = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** Issues a certificate that `issueCertificate` never issues. It is valid for a day. */
export async function issueUnusual(given: UnusualCertificate): Promise<KeyPair> {
  const { uris = [], dnsNames = [], isAuthority = false, commonName = 'unusual', rsaBits } = given;
  const algorithm =
    rsaBits === undefined
      ? ecdsa
      : {
          name: 'RSASSA-PKCS1-v1_5',
          hash: 'SHA-256',
          modulusLength: rsaBits,
          publicExponent: new Uint8Array([1, 0, 1]),
        };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const names = [
    ...uris.map((value) => ({ type: 'url' as const, value })),
    ...dnsNames.map((value) => ({ type: 'dns' as const, value })),
  ];
  const certificate = await x509.X509CertificateGenerator.create({
    subject: [{ CN: [commonName] }],
    issuer:
      given.issuer === undefined
        ? [{ CN: [commonName] }]
        : new x509.X509Certificate(given.issuer.certificate).subjectName,
    publicKey: keys.publicKey,
    signingKey: given.issuer === undefined ? keys.privateKey : await signingKeyOf(given.issuer),
    signingAlgorithm:
      given.issuer === undefined ? algorithm : { ...ecdsa, hash: given.hash ?? ecdsa.hash },
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 24 * 60 * 60 * 1000),
    extensions: [
      new x509.BasicConstraintsExtension(isAuthority, undefined, true),
      ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
      ...(given.purposes === undefined
        ? []
        : [new x509.ExtendedKeyUsageExtension([...given.purposes])]),
    ],
  });
  const der = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  const key = createPrivateKey({ key: Buffer.from(der), type: 'pkcs8', format: 'der' });
  return {
    certificate: certificate.toString('pem'),
    key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

async function signingKeyOf({ key }: KeyPair): Promise<webcrypto.CryptoKey> {
  const der = createPrivateKey(key).export({ type: 'pkcs8', format: 'der' });
  return webcrypto.subtle.importKey('pkcs8', der, ecdsa, false, ['sign']);
}

/** A directory that is removed after the test. */
export async function temporaryDirectory(t: ExecutionContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-tls-'));
  t.teardown(async () => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Writes the files of a TLS directory, each at once. */
export async function writeTlsFiles(
  directory: string,
  { certificate, key }: KeyPair,
  authorities: string,
): Promise<void> {
  const replace = async (name: string, text: string): Promise<void> => {
    await writeFile(join(directory, `${name}~`), text, { mode: 0o600 });
    await rename(join(directory, `${name}~`), join(directory, name));
  };
  await replace(tlsFiles.authorities, authorities);
  await replace(tlsFiles.key, key);
  await replace(tlsFiles.certificate, certificate);
}
