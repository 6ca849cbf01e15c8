/** `loopcsi tls create`: an authority and the certificates of controller and agents, for machines without Kubernetes. */
import { X509Certificate } from 'node:crypto';
import { mkdir, mkdtemp, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { parseDriverName } from '../config/values.ts';
import { messageOf } from '../errors.ts';
import { issueCertificate, type KeyPair, makeAuthority } from '../tls/authority.ts';
import { tlsFiles } from '../tls/credentials.ts';
import { driverNameIn, type Role, roles } from '../tls/roles.ts';
import { FailedError, UsageError } from './errors.ts';
import type { Session } from './session.ts';

interface CreateOptions {
  readonly driverName?: string;
  readonly renew?: boolean;
}

const defaultDriverName = 'loopcsi.io';
const authorityDirectory = 'ca';
const authorityFiles = { certificate: 'ca.crt', key: 'ca.key' } as const;

export function addTlsCommands(program: Command, session: Session): void {
  program
    .command('tls')
    .description('certificates of loopcsi controller and its agents')
    .command('create')
    .description('create an authority, and certificates of the controller and the agents')
    .argument('<dir>', 'a directory to create')
    .option('--driver-name <NAME>', `--driver-name of the drivers; default ${defaultDriverName}`)
    .option('--renew', 'make new certificates with the authority that is in the directory')
    .action((directory: string, options: CreateOptions) =>
      options.renew === true
        ? renew(session, resolve(directory), options)
        : create(session, resolve(directory), options),
    );
}

/** Makes all files beside `directory` and renames them to it, so that they appear complete or not at all. */
async function create(session: Session, directory: string, options: CreateOptions): Promise<void> {
  const driverName = checkedDriverName(options.driverName ?? defaultDriverName);
  await requireMissingOrEmpty(directory);
  const authority = await makeAuthority();
  await mkdir(dirname(directory), { recursive: true });
  const made = await mkdtemp(join(dirname(directory), `.${basename(directory)}.`));
  try {
    await writeDirectory(join(made, authorityDirectory), {
      [authorityFiles.certificate]: authority.certificate,
      [authorityFiles.key]: authority.key,
    });
    const pairs = await issueForRoles(authority, driverName);
    for (const [role, pair] of pairs) {
      await writeDirectory(join(made, role), {
        [tlsFiles.authorities]: authority.certificate,
        ...filesOf(pair),
      });
    }
    await syncDirectory(made);
    await rename(made, directory);
    await syncDirectory(dirname(directory));
    await report(session, { directory, driverName, renewed: false, authority, pairs });
  } catch (error) {
    await rm(made, { recursive: true, force: true });
    throw new FailedError(`${directory} cannot be created: ${messageOf(error)}`, { cause: error });
  }
}

/** Replaces the certificates and keys of both roles. The authority, and what the roles trust, stay. */
async function renew(session: Session, directory: string, options: CreateOptions): Promise<void> {
  const authority = await readAuthority(directory);
  const driverName = checkedDriverName(options.driverName ?? (await issuedFor(directory)));
  const pairs = await issueForRoles(authority, driverName);
  for (const [role, pair] of pairs) {
    const into = join(directory, role);
    try {
      await replaceFiles(into, filesOf(pair));
    } catch (error) {
      throw new FailedError(
        `the files in ${into} cannot be replaced: ${messageOf(error)}; repeat the command`,
        { cause: error },
      );
    }
  }
  await report(session, { directory, driverName, renewed: true, authority, pairs });
}

function checkedDriverName(name: string): string {
  try {
    return parseDriverName(name);
  } catch (error) {
    throw new UsageError(`--driver-name: ${messageOf(error)}`, { cause: error });
  }
}

async function requireMissingOrEmpty(directory: string): Promise<void> {
  const entries: readonly string[] = await readdir(directory).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw new FailedError(`${directory} cannot be used: ${error.message}`, { cause: error });
    },
  );
  if (entries.length === 0) return;
  const remedy = entries.includes(authorityDirectory)
    ? '--renew makes new certificates with its authority'
    : 'choose another one';
  throw new FailedError(`${directory} is not empty, and nothing in it is overwritten; ${remedy}`);
}

async function readAuthority(directory: string): Promise<KeyPair> {
  const read = (name: string) => readFile(join(directory, authorityDirectory, name), 'utf8');
  try {
    return {
      certificate: await read(authorityFiles.certificate),
      key: await read(authorityFiles.key),
    };
  } catch (error) {
    throw new FailedError(
      `the authority in ${directory} cannot be read: ${messageOf(error)}; without --renew, a new one is created in an empty directory`,
      { cause: error },
    );
  }
}

/** The driver that the certificates in the directory are for. */
async function issuedFor(directory: string): Promise<string> {
  const path = join(directory, 'agent', tlsFiles.certificate);
  try {
    const found = driverNameIn(new X509Certificate(await readFile(path, 'utf8')));
    if (found !== undefined) return found;
    throw new Error('it names no driver');
  } catch (error) {
    throw new FailedError(`${path} is not usable: ${messageOf(error)}; add --driver-name NAME`, {
      cause: error,
    });
  }
}

async function issueForRoles(
  authority: KeyPair,
  driverName: string,
): Promise<ReadonlyMap<Role, KeyPair>> {
  const pairs = new Map<Role, KeyPair>();
  for (const role of roles)
    pairs.set(role, await issueCertificate(authority, { driverName, role }));
  return pairs;
}

type Files = Readonly<Record<string, string>>;

/** The key first: while a certificate is replaced, a process that reads both keeps what it has. */
function filesOf({ certificate, key }: KeyPair): Files {
  return { [tlsFiles.key]: key, [tlsFiles.certificate]: certificate };
}

async function writeDirectory(directory: string, files: Files): Promise<void> {
  await mkdir(directory, { mode: 0o700 });
  for (const [name, text] of Object.entries(files)) await writeDurably(join(directory, name), text);
  await syncDirectory(directory);
}

async function replaceFiles(directory: string, files: Files): Promise<void> {
  const names = Object.keys(files);
  const temporary = (name: string) => join(directory, `.${name}.new`);
  for (const [name, text] of Object.entries(files)) {
    // Left by a run that was killed.
    await rm(temporary(name), { force: true });
    await writeDurably(temporary(name), text);
  }
  for (const name of names) await rename(temporary(name), join(directory, name));
  await syncDirectory(directory);
}

async function writeDurably(path: string, text: string): Promise<void> {
  await writeFile(path, text, { mode: 0o600, flag: 'wx', flush: true });
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

interface Created {
  readonly directory: string;
  readonly driverName: string;
  readonly renewed: boolean;
  readonly authority: KeyPair;
  readonly pairs: ReadonlyMap<Role, KeyPair>;
}

async function report(session: Session, created: Created): Promise<void> {
  const { directory, driverName, renewed, authority, pairs } = created;
  const authorityExpiresAt = expiryOf(authority);
  const [first = authority] = pairs.values();
  const certificatesExpireAt = expiryOf(first);
  const result = {
    directory,
    driverName,
    renewed,
    authorityExpiresAt: authorityExpiresAt.toISOString(),
    certificatesExpireAt: certificatesExpireAt.toISOString(),
  };
  await session.show(result, () => {
    const until = certificatesExpireAt.toISOString().slice(0, 10);
    const authorityUntil = authorityExpiresAt.toISOString().slice(0, 10);
    return [
      renewed
        ? `renewed the certificates of driver ${driverName} in ${directory}; the authority is unchanged`
        : `created the certificates of driver ${driverName} in ${directory}`,
      '',
      `  controller/  until ${until}  copy it to the machine of the controller: loopcsi controller --tls-dir DIR`,
      `  agent/       until ${until}  copy it to every node: loopcsi serve --agent-address HOST:9737 --tls-dir DIR`,
      `  ca/          until ${authorityUntil}  keep it where no driver runs: with ca.key, anyone can make a controller`,
      '',
      `Renew them before ${until}: loopcsi tls create ${directory} --renew`,
    ].join('\n');
  });
}

function expiryOf({ certificate }: KeyPair): Date {
  return new Date(new X509Certificate(certificate).validTo);
}
