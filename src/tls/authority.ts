/**
 * A certificate authority for controllers and agents of one driver. Keys are on P-256, which every TLS library, cert-manager and FIPS
 * mode accept. Certificates are made by @peculiar/x509, which only processes that make certificates load.
 */
import { createPrivateKey, randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import type * as Library from '@peculiar/x509';
import { messageOf, VolumeError } from '../errors.ts';
import { type Role, roleUri } from './roles.ts';

declare global {
  // Types of browsers that the library's declarations name. Node's own Web Crypto has them, but not as global types.
  type Algorithm = webcrypto.Algorithm;
  type AlgorithmIdentifier = webcrypto.AlgorithmIdentifier;
  type BufferSource = webcrypto.BufferSource;
  type Crypto = webcrypto.Crypto;
  type CryptoKey = webcrypto.CryptoKey;
  type CryptoKeyPair = webcrypto.CryptoKeyPair;
  type EcKeyGenParams = webcrypto.EcKeyGenParams;
  type EcKeyImportParams = webcrypto.EcKeyImportParams;
  type EcdsaParams = webcrypto.EcdsaParams;
  type KeyUsage = webcrypto.KeyUsage;
  type RsaHashedImportParams = webcrypto.RsaHashedImportParams;
}

/** A certificate and its private key, as PEM. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

const dayMs = 24 * 60 * 60 * 1000;
/** 10 years. */
export const authorityLifetimeMs = 3650 * dayMs;
export const certificateLifetimeMs = 90 * dayMs;
/** A certificate is valid this long before it was made, for peers whose clock is behind. */
const clockToleranceMs = 5 * 60 * 1000;

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** When something is made, and how long it is valid from then on, in milliseconds. Tests set other values. */
interface Validity {
  readonly nowMs?: number;
  readonly lifetimeMs?: number;
}

/** Makes the key and the self-signed certificate of an authority. */
export async function makeAuthority(validity: Validity = {}): Promise<KeyPair> {
  const { nowMs = Date.now(), lifetimeMs = authorityLifetimeMs } = validity;
  const library = await loadLibrary();
  const keys = await makeKeys();
  // Unique, so that a chain cannot be built with another authority of a bundle.
  const name = `CN=loopcsi CA ${randomBytes(8).toString('hex')}`;
  const certificate = await library.X509CertificateGenerator.createSelfSigned({
    name,
    keys,
    signingAlgorithm: algorithm,
    serialNumber: serialNumber(),
    notBefore: new Date(nowMs - clockToleranceMs),
    notAfter: new Date(nowMs + lifetimeMs),
    extensions: [
      new library.BasicConstraintsExtension(true, 0, true),
      new library.KeyUsagesExtension(
        library.KeyUsageFlags.keyCertSign | library.KeyUsageFlags.cRLSign,
        true,
      ),
      await library.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: pem(certificate), key: await keyAsPem(keys) };
}

/**
 * Makes a new key and its certificate for a role. The certificate ends with the authority's at the latest. Throws `invalid` if the
 * authority's key is not on P-256 or not that of its certificate, `wrong-state` if the authority has expired.
 */
export async function issueCertificate(
  authority: KeyPair,
  holder: { readonly driverName: string; readonly role: Role },
  validity: Validity = {},
): Promise<KeyPair> {
  const { nowMs = Date.now(), lifetimeMs = certificateLifetimeMs } = validity;
  const library = await loadLibrary();
  const signingKey = await importSigningKey(authority);
  const issuer = new library.X509Certificate(authority.certificate);
  if (issuer.notAfter.getTime() <= nowMs) {
    throw new VolumeError(
      'wrong-state',
      `the certificate of the authority expired at ${issuer.notAfter.toISOString()}; make a new authority`,
    );
  }
  const keys = await makeKeys();
  const { keyUsages, purposes } = usagesOf(library, holder.role);
  const certificate = await library.X509CertificateGenerator.create({
    subject: `CN=loopcsi ${holder.role}`,
    issuer: issuer.subjectName,
    publicKey: keys.publicKey,
    signingKey,
    signingAlgorithm: algorithm,
    serialNumber: serialNumber(),
    notBefore: new Date(nowMs - clockToleranceMs),
    notAfter: new Date(Math.min(nowMs + lifetimeMs, issuer.notAfter.getTime())),
    extensions: [
      new library.BasicConstraintsExtension(false, undefined, true),
      new library.KeyUsagesExtension(keyUsages, true),
      new library.ExtendedKeyUsageExtension(purposes),
      new library.SubjectAlternativeNameExtension([
        { type: 'url', value: roleUri(holder.driverName, holder.role) },
      ]),
      await library.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
      await library.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: pem(certificate), key: await keyAsPem(keys) };
}

/** An agent is a server, and a client of other agents; a controller is only a client. */
function usagesOf(library: typeof Library, role: Role) {
  const { clientAuth, serverAuth } = library.ExtendedKeyUsage;
  return {
    keyUsages: library.KeyUsageFlags.digitalSignature,
    purposes: role === 'agent' ? [serverAuth, clientAuth] : [clientAuth],
  };
}

async function loadLibrary(): Promise<typeof Library> {
  // The library's dependency injection needs this polyfill before it is loaded.
  await import('reflect-metadata');
  return import('@peculiar/x509');
}

async function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

async function importSigningKey({ certificate, key }: KeyPair): Promise<webcrypto.CryptoKey> {
  try {
    const parsed = createPrivateKey(key);
    if (!new X509Certificate(certificate).checkPrivateKey(parsed))
      throw new Error('the key is not the key of the certificate');
    return await webcrypto.subtle.importKey(
      'pkcs8',
      parsed.export({ type: 'pkcs8', format: 'der' }),
      algorithm,
      false,
      ['sign'],
    );
  } catch (error) {
    throw new VolumeError(
      'invalid',
      `the authority cannot be used: ${messageOf(error)}; its key must be an EC key on P-256`,
      { cause: error },
    );
  }
}

/** 16 random bytes, the first below 0x80, so that the number is positive and not longer when it is encoded (RFC 5280, 4.1.2.2). */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}

function pem(certificate: Library.X509Certificate): string {
  return `${certificate.toString('pem').trim()}\n`;
}

async function keyAsPem({ privateKey }: webcrypto.CryptoKeyPair): Promise<string> {
  const der = await webcrypto.subtle.exportKey('pkcs8', privateKey);
  const key = createPrivateKey({ key: Buffer.from(der), type: 'pkcs8', format: 'der' });
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}
