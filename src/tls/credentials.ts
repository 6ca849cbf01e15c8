/**
 * The certificates of this process: a directory with `ca.crt` (one or more authorities), `tls.crt` and `tls.key`, the names of a
 * Secret of type kubernetes.io/tls. The files are read again every few seconds. Polling also finds a directory that is created later,
 * and the kubelet's replacement of a symbolic link, which watching a file does not.
 */
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext, type SecureContext } from 'node:tls';
import { callPeriodically } from '../async.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../observe/log.ts';
import { findPeerProblem, type Role } from './roles.ts';

/** The names of the files in a TLS directory. */
export const tlsFiles = { authorities: 'ca.crt', certificate: 'tls.crt', key: 'tls.key' } as const;

/** Certificates of a TLS directory that fit together. */
export interface Credentials {
  /** The authorities whose certificates are trusted, as PEM. */
  readonly authorities: string;
  /** The certificate with its intermediates, and its key, as PEM. */
  readonly certificate: string;
  readonly key: string;
  /** For node:tls: TLS 1.3 with these certificates. */
  readonly context: SecureContext;
  /** SHA-256 of each authority's certificate, as `X509Certificate.fingerprint256`. */
  readonly authorityFingerprints: ReadonlySet<string>;
  /** When the certificate expires. */
  readonly expiresAtMs: number;
  /** Of the three files; other files have another digest. */
  readonly digest: string;
}

interface CredentialsOptions {
  readonly directory: string;
  readonly driverName: string;
  /** The role that the certificate must have. */
  readonly role: Role;
  readonly log: Logger;
  /** How often the files are read; by default every 5 seconds. */
  readonly pollMs?: number;
}

const defaultPollMs = 5_000;
/** How often the files are read until the first usable ones are found. */
const firstPollMs = 1_000;

/** Reads a TLS directory. Throws an Error that says which file cannot be used and why. */
export async function readCredentials({
  directory,
  driverName,
  role,
}: Pick<CredentialsOptions, 'directory' | 'driverName' | 'role'>): Promise<Credentials> {
  return decodeFiles(await readFiles(directory), { directory, driverName, role });
}

/** Follows a TLS directory until it is closed. */
export class FollowedCredentials {
  readonly #options: CredentialsOptions;
  readonly #listeners = new Set<(credentials: Credentials) => void>();
  #current: Credentials | undefined;
  /** Why the files cannot be used at present, and the digest or error code of the attempt. */
  #failure: { readonly state: string; readonly problem: string } | undefined;
  #loggedProblem: string | undefined;
  #stop: () => void = () => undefined;

  private constructor(options: CredentialsOptions) {
    this.#options = options;
  }

  /** Reads the directory once and then periodically. Never throws: what cannot be read now may be usable later. */
  static async follow(options: CredentialsOptions): Promise<FollowedCredentials> {
    const followed = new FollowedCredentials(options);
    const nextMs = await followed.#poll();
    followed.#stop = callPeriodically(() => followed.#poll(), nextMs);
    return followed;
  }

  /** The last usable certificates; undefined until there are some. They may have expired since. */
  get current(): Credentials | undefined {
    return this.#current;
  }

  /** Why this process cannot use TLS at present; undefined if it can. */
  get problem(): string | undefined {
    const current = this.#current;
    if (current === undefined) return this.#failure?.problem;
    if (Date.now() < current.expiresAtMs) return undefined;
    return `the certificate in ${this.#options.directory} expired at ${timeText(current.expiresAtMs)}; renew it`;
  }

  /** Calls `onChange` with the current certificates, if there are some, and with those of each change. */
  subscribe(onChange: (credentials: Credentials) => void): () => void {
    this.#listeners.add(onChange);
    if (this.#current !== undefined) onChange(this.#current);
    return () => this.#listeners.delete(onChange);
  }

  close(): void {
    this.#stop();
    this.#listeners.clear();
  }

  /** Returns the milliseconds until the next poll. */
  async #poll(): Promise<number> {
    const { directory, pollMs = defaultPollMs } = this.#options;
    try {
      const files = await readFiles(directory);
      if (files.digest !== this.#current?.digest) this.#decode(files);
      else this.#failure = undefined;
    } catch (error) {
      this.#fail(messageOf(error), messageOf(error));
    }
    return this.#current === undefined ? Math.min(firstPollMs, pollMs) : pollMs;
  }

  #decode(files: TlsFiles): void {
    try {
      this.#adopt(decodeFiles(files, this.#options));
    } catch (error) {
      this.#fail(files.digest, messageOf(error));
    }
  }

  #adopt(credentials: Credentials): void {
    this.#current = credentials;
    this.#failure = undefined;
    this.#loggedProblem = undefined;
    const { directory, log } = this.#options;
    log.info(
      { directory, expires: timeText(credentials.expiresAtMs) },
      'TLS certificates were loaded',
    );
    for (const onChange of this.#listeners) onChange(credentials);
  }

  #fail(state: string, problem: string): void {
    const isLasting = this.#failure?.state === state;
    this.#failure = { state, problem };
    // Files that are being replaced do not fit together for a moment, so a failure of replaced files is logged if the next poll
    // finds the same files.
    if (this.#current !== undefined && !isLasting) return;
    if (this.#loggedProblem === problem) return;
    this.#loggedProblem = problem;
    const { directory, log } = this.#options;
    if (this.#current === undefined) {
      log.warn({ directory, problem }, 'TLS certificates are not usable: they are awaited');
    } else {
      log.warn(
        { directory, problem, expires: timeText(this.#current.expiresAtMs) },
        'new TLS certificates are not usable: the previous ones are kept',
      );
    }
  }
}

interface TlsFiles {
  readonly authorities: string;
  readonly certificate: string;
  readonly key: string;
  readonly digest: string;
}

async function readFiles(directory: string): Promise<TlsFiles> {
  // One after the other: if several cannot be read, the log names the same one each time, and therefore once.
  const authorities = await readTlsFile(directory, tlsFiles.authorities);
  const certificate = await readTlsFile(directory, tlsFiles.certificate);
  const key = await readTlsFile(directory, tlsFiles.key);
  const digest = createHash('sha256')
    .update(JSON.stringify([authorities, certificate, key]))
    .digest('hex');
  return { authorities, certificate, key, digest };
}

async function readTlsFile(directory: string, name: string): Promise<string> {
  const path = join(directory, name);
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new Error(`${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

function decodeFiles(
  files: TlsFiles,
  { directory, driverName, role }: Pick<CredentialsOptions, 'directory' | 'driverName' | 'role'>,
): Credentials {
  const { authorities, certificate, key } = files;
  const inFile = <T>(name: string, decode: () => T): T => {
    try {
      return decode();
    } catch (error) {
      throw new Error(`${join(directory, name)} is not usable: ${messageOf(error)}`, {
        cause: error,
      });
    }
  };
  const authorityFingerprints = inFile(tlsFiles.authorities, () => fingerprintsOf(authorities));
  const leaf = inFile(tlsFiles.certificate, () => {
    const parsed = new X509Certificate(certificate);
    requireUsable(parsed, { driverName, role });
    return parsed;
  });
  const context = inFile(tlsFiles.key, () => {
    if (!leaf.checkPrivateKey(createPrivateKey(key)))
      throw new Error(`it is not the key of ${tlsFiles.certificate}`);
    return createSecureContext({
      ca: authorities,
      cert: certificate,
      key,
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
    });
  });
  return { ...files, context, authorityFingerprints, expiresAtMs: Date.parse(leaf.validTo) };
}

function requireUsable(
  leaf: X509Certificate,
  expected: { readonly driverName: string; readonly role: Role },
): void {
  const problem = findPeerProblem(leaf, expected);
  if (problem !== undefined) throw problem;
  const beginsAtMs = Date.parse(leaf.validFrom);
  const expiresAtMs = Date.parse(leaf.validTo);
  const nowMs = Date.now();
  if (nowMs < beginsAtMs)
    throw new Error(`the certificate is valid from ${timeText(beginsAtMs)}; check the clock`);
  if (nowMs >= expiresAtMs)
    throw new Error(`the certificate expired at ${timeText(expiresAtMs)}; renew it`);
}

const pemCertificate = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

function fingerprintsOf(bundle: string): ReadonlySet<string> {
  const certificates = (bundle.match(pemCertificate) ?? []).map(
    (text) => new X509Certificate(text),
  );
  if (certificates.length === 0) throw new Error('it contains no certificate');
  return new Set(certificates.map(({ fingerprint256 }) => fingerprint256));
}

function timeText(ms: number): string {
  return new Date(ms).toISOString();
}
