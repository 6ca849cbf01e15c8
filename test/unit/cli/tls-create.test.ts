import { X509Certificate } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import test from 'ava';
import { runCommandLine } from '../../../src/cli/program.ts';
import { readCredentials } from '../../../src/tls/credentials.ts';
import { temporaryDirectory } from '../../helpers/certificates.ts';

async function run(...argv: readonly string[]) {
  const streams = {
    stdin: new PassThrough(),
    stdout: new PassThrough(),
    stderr: new PassThrough(),
  };
  const exitCode = await runCommandLine(argv, { streams, environment: {}, version: '1.2.3' });
  const textOf = (stream: PassThrough) => (stream.read() as Buffer | null)?.toString() ?? '';
  return { exitCode, stdout: textOf(streams.stdout), stderr: textOf(streams.stderr) };
}

const fileNames = async (directory: string): Promise<readonly string[]> =>
  (await readdir(directory, { recursive: true }))
    .filter((name) => /\.(?:crt|key)/.test(name))
    .sort();

test('the certificates of both roles are created, and only their owner can read them', async (t) => {
  const parent = await temporaryDirectory(t);
  const directory = join(parent, 'a', 'tls');
  const { exitCode, stdout, stderr } = await run('tls', 'create', directory);
  t.is(exitCode, 0, stderr);
  t.regex(stdout, /created the certificates of driver loopcsi.io/);
  t.regex(stdout, /agent\/ +until \d{4}-\d\d-\d\d +copy it to every node/);
  t.deepEqual(await fileNames(directory), [
    'agent/ca.crt',
    'agent/tls.crt',
    'agent/tls.key',
    'ca/ca.crt',
    'ca/ca.key',
    'controller/ca.crt',
    'controller/tls.crt',
    'controller/tls.key',
  ]);
  for (const name of await fileNames(directory))
    t.is((await stat(join(directory, name))).mode & 0o777, 0o600, name);
  for (const name of ['.', 'agent', 'ca', 'controller'])
    t.is((await stat(join(directory, name))).mode & 0o777, 0o700, name);
  for (const role of ['agent', 'controller'] as const)
    await readCredentials({ directory: join(directory, role), driverName: 'loopcsi.io', role });
  t.deepEqual(await readdir(join(parent, 'a')), ['tls']);
});

test('nothing is overwritten', async (t) => {
  const directory = join(await temporaryDirectory(t), 'tls');
  t.is((await run('tls', 'create', directory)).exitCode, 0);
  const key = await readFile(join(directory, 'ca', 'ca.key'), 'utf8');
  const again = await run('tls', 'create', directory);
  t.is(again.exitCode, 1);
  t.regex(again.stderr, /is not empty, .*--renew makes new certificates/);
  t.is(await readFile(join(directory, 'ca', 'ca.key'), 'utf8'), key);
  const other = await temporaryDirectory(t);
  await writeFile(join(other, 'precious'), '');
  t.regex((await run('tls', 'create', other)).stderr, /is not empty, .*choose another one/);
  t.deepEqual(await readdir(other), ['precious']);
  const file = await run('tls', 'create', join(other, 'precious'));
  t.is(file.exitCode, 1);
  t.regex(file.stderr, /precious cannot be used: ENOTDIR/);
});

test('--renew keeps the authority, the bundles and the name of the driver', async (t) => {
  const directory = await temporaryDirectory(t);
  t.is((await run('tls', 'create', directory, '--driver-name', 'other.io')).exitCode, 0);
  const read = (name: string) => readFile(join(directory, name), 'utf8');
  const bundle = `# old and new\n${await read('ca/ca.crt')}`;
  await writeFile(join(directory, 'agent', 'ca.crt'), bundle);
  const before = await Promise.all(['ca/ca.crt', 'ca/ca.key', 'controller/ca.crt'].map(read));
  const old = await Promise.all(['agent/tls.crt', 'agent/tls.key', 'controller/tls.crt'].map(read));
  // A run that was killed left a file.
  await writeFile(join(directory, 'agent', '.tls.key.new'), 'half');
  const { exitCode, stdout, stderr } = await run('tls', 'create', directory, '--renew', '--json');
  t.is(exitCode, 0, stderr);
  t.like(JSON.parse(stdout), { directory, driverName: 'other.io', renewed: true });
  const names = ['ca/ca.crt', 'ca/ca.key', 'controller/ca.crt'];
  t.deepEqual(await Promise.all(names.map(read)), before);
  t.is(await read('agent/ca.crt'), bundle);
  for (const [index, name] of ['agent/tls.crt', 'agent/tls.key', 'controller/tls.crt'].entries())
    t.not(await read(name), old[index], name);
  const issuer = new X509Certificate(await read('ca/ca.crt'));
  for (const role of ['agent', 'controller'] as const) {
    const { certificate } = await readCredentials({
      directory: join(directory, role),
      driverName: 'other.io',
      role,
    });
    t.true(new X509Certificate(certificate).verify(issuer.publicKey));
  }
  t.is((await fileNames(directory)).length, 8);
  t.is((await stat(join(directory, 'agent', 'tls.key'))).mode & 0o777, 0o600);
});

test('errors say what to do', async (t) => {
  const directory = await temporaryDirectory(t);
  const missing = await run('tls', 'create', join(directory, 'none'), '--renew');
  t.is(missing.exitCode, 1);
  t.regex(missing.stderr, /ca.crt.*without --renew, a new one is created/);
  const name = await run('tls', 'create', join(directory, 'a'), '--driver-name', 'No Domain');
  t.is(name.exitCode, 2);
  t.regex(name.stderr, /--driver-name: 'No Domain' is not a driver name/);
  t.deepEqual(await readdir(directory), []);

  t.is((await run('tls', 'create', directory)).exitCode, 0);
  await rm(join(directory, 'agent', 'tls.crt'));
  const unknown = await run('tls', 'create', directory, '--renew');
  t.is(unknown.exitCode, 1);
  t.regex(unknown.stderr, /tls.crt is not usable: ENOENT.*add --driver-name NAME/);
  t.is((await run('tls', 'create', directory, '--renew', '--driver-name', 'a.io')).exitCode, 0);

  await writeFile(join(directory, 'ca', 'ca.key'), 'garbage');
  const damaged = await run('tls', 'create', directory, '--renew');
  t.is(damaged.exitCode, 1);
  t.regex(damaged.stderr, /the authority cannot be used/);
});

test('a directory that cannot be written leaves nothing behind', async (t) => {
  const parent = await temporaryDirectory(t);
  await mkdir(join(parent, 'tls'));
  await writeFile(join(parent, 'file'), '');
  const { exitCode, stderr } = await run('tls', 'create', join(parent, 'file', 'tls'));
  t.is(exitCode, 1);
  t.regex(stderr, /cannot be used: ENOTDIR/);
  await chmod(join(parent, 'tls'), 0o755);
  t.is((await run('tls', 'create', join(parent, 'tls'))).exitCode, 0);
  t.is((await stat(join(parent, 'tls'))).mode & 0o777, 0o700);
  t.deepEqual((await readdir(parent)).sort(), ['file', 'tls']);
});
