import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
