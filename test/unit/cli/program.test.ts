import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import test from 'ava';
import type { Command } from 'commander';
import { execa } from 'execa';
import { endpointOf } from '../../../src/cli/driver.ts';
import { UsageError } from '../../../src/cli/errors.ts';
import { makeProgram, pluginMode, runCommandLine } from '../../../src/cli/program.ts';
import { Session } from '../../../src/cli/session.ts';
import { Terminal } from '../../../src/cli/terminal.ts';

const root = join(import.meta.dirname, '..', '..', '..', '..');

function streams() {
  return { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
}

async function run(...argv: readonly string[]) {
  const into = streams();
  const exitCode = await runCommandLine(argv, { streams: into, environment: {}, version: '1.2.3' });
  const textOf = (stream: PassThrough): string =>
    (stream.read() as Buffer | null)?.toString() ?? '';
  return { exitCode, stdout: textOf(into.stdout), stderr: textOf(into.stderr) };
}

const program = makeProgram(
  new Session({ terminal: new Terminal(streams(), {}), environment: {}, version: '1.2.3' }),
);

function leavesOf(command: Command): readonly Command[] {
  return command.commands.length === 0
    ? [command]
    : command.createHelp().visibleCommands(command).flatMap(leavesOf);
}

function flagsOf(command: Command): readonly string[] {
  return command.options.map(({ long }) => long ?? '');
}

function nameOf(command: Command): string {
  return command.parent === null ? '' : `${nameOf(command.parent)} ${command.name()}`.trim();
}

const guide = readFileSync(join(root, 'docs', 'command-line.md'), 'utf8');

test('docs/command-line.md has a section for every command, with all its flags', (t) => {
  for (const leaf of leavesOf(program).filter(
    (one) => !['serve', 'controller'].includes(one.name()),
  )) {
    const name = nameOf(leaf);
    const section = new RegExp(
      `^### \`${name}\\b[^\n]*\n([\\s\\S]*?)(?=^##|$(?![\\s\\S]))`,
      'm',
    ).exec(guide)?.[1];
    t.truthy(section, `no heading for '${name}'`);
    for (const flag of flagsOf(leaf)) t.true(section?.includes(`\`${flag}`), `${name} ${flag}`);
    t.not(leaf.description(), '', `${name} has no description`);
  }
});

test('docs/command-line.md has no section for an unknown command', (t) => {
  const names = leavesOf(program).map(nameOf);
  for (const [, heading = ''] of guide.matchAll(/^### `([^`]+)`/gm)) {
    const commands = heading.split(' ').filter((word) => /^[a-z-]+$/.test(word));
    t.true(names.includes(commands.join(' ')), heading);
  }
});

test('--help succeeds and lists the exit codes', async (t) => {
  const { exitCode, stdout } = await run('--help');
  t.is(exitCode, 0);
  t.regex(stdout, /0 success, 1 failure, 2 usage error/);
});

test('an unknown command is a usage error on standard error', async (t) => {
  const { exitCode, stdout, stderr } = await run('volume', 'lisst');
  t.is(exitCode, 2);
  t.is(stdout, '');
  t.regex(stderr, /Did you mean/);
});

test('without a driver the error says how to start one', async (t) => {
  const { exitCode, stderr } = await run(
    'volume',
    'list',
    '--endpoint',
    'unix:///nowhere/csi.sock',
  );
  t.is(exitCode, 1);
  t.regex(stderr, /no driver is running.*\/nowhere\/csi\.sock.*loopcsi serve/);
});

test('with --json errors are JSON', async (t) => {
  const { stderr } = await run('volume', 'list', '--json', '--endpoint', '/nowhere/csi.sock');
  t.deepEqual(Object.keys((JSON.parse(stderr) as { error: object }).error), ['code', 'message']);
});

for (const argv of [
  ['volume', 'create'],
  ['volume', 'lisst'],
  ['volume', 'create', 'a', '--fstype', 'ntfs'],
  ['volume'],
]) {
  test(`with --json usage errors are JSON: ${argv.join(' ')}`, async (t) => {
    const { exitCode, stderr } = await run(...argv, '--json');
    t.is(exitCode, 2);
    const { error } = JSON.parse(stderr) as { error: { code: string; message: string } };
    t.is(error.code, 'USAGE');
    t.regex(error.message, /^(?!error:)./);
  });
}

for (const argv of [
  ['volume', 'create', 'a', '--size', 'foo'],
  ['volume', 'create', 'a', '--size', '-1Gi'],
  ['volume', 'create', 'a', '--size', '0'],
  ['volume', 'clone', 'a', 'b', '--size', '0Gi'],
  ['volume', 'expand', 'a', '--size', '0'],
  ['snapshot', 'restore', 'a', 'b', '--size', 'x'],
  ['pool', 'grow', 'a', '--size', 'x'],
  ['pool', 'init', 'a=/b', '--reflink', '0'],
]) {
  test(`an invalid value is a usage error even without a driver: ${argv.join(' ')}`, async (t) => {
    const { exitCode, stderr } = await run(...argv, '--endpoint', '/nowhere/csi.sock');
    t.is(exitCode, 2);
    t.regex(stderr, /--(?:size|reflink)/);
  });
}

for (const { argv, says } of [
  { argv: ['volume', 'create', 'a\nb'], says: /the name 'a\\nb' contains a line break/ },
  { argv: ['volume', 'create', '-'], says: /'-' means standard input or output/ },
  { argv: ['volume', 'import', '-', '/a'], says: /'-' means standard input or output/ },
  { argv: ['volume', 'clone', 'a', 'b\t'], says: /the name 'b\\t' contains/ },
  { argv: ['snapshot', 'create', 'a', 'b\u0007'], says: /the name 'b\\u0007' contains/ },
  { argv: ['snapshot', 'group', 'create', 'b\n', 'v'], says: /the name 'b\\n' contains/ },
  { argv: ['pool', 'init', 'a=/b,force'], says: /cannot contain a comma; give options as flags/ },
  { argv: ['volume', 'mount', 'a', '/b', '-o', 'noatime'], says: /Mount options follow --options/ },
  { argv: ['volume', 'create', 'a', '--size', '10'], says: /did you mean 10Gi or 10Mi/ },
  { argv: ['volume', 'list', '--sort', 'colour'], says: /Allowed choices are name, claim, size/ },
]) {
  test(`a usage error says what was meant: ${JSON.stringify(argv.join(' '))}`, async (t) => {
    const { exitCode, stderr } = await run(...argv, '--endpoint', '/nowhere/csi.sock');
    t.is(exitCode, 2);
    t.regex(stderr, says);
  });
}

test('help accepts the names of subcommands', async (t) => {
  const { exitCode, stdout } = await run('help', 'volume', 'create');
  t.is(exitCode, 0);
  t.regex(stdout, /Usage: loopcsi volume create/);
  t.regex((await run('help', 'serve')).stdout, /--state-dir/);
  t.is((await run('help', 'volume', 'nonsense')).exitCode, 2);
});

test('the plugin calls itself kubectl loopcsi, and offers nothing that needs a driver here', async (t) => {
  const { exitCode, stdout } = await run(pluginMode, '--help');
  t.is(exitCode, 0);
  t.regex(stdout, /^Usage: kubectl loopcsi \[options\]/);
  t.notRegex(stdout, /loopcsi cluster (?!')|--endpoint|serve/);
  const volumes = await run(pluginMode, 'volumes', '--help');
  t.regex(volumes.stdout, /^Usage: kubectl loopcsi volumes /);
  t.notRegex(volumes.stdout, /--endpoint/);
  t.regex((await run(pluginMode, 'help', 'run')).stdout, /Usage: kubectl loopcsi run /);
  const unknown = await run(pluginMode, 'volume');
  t.is(unknown.exitCode, 2);
  t.regex(unknown.stderr, /Did you mean volumes/);
});

test('without a cluster the plugin prints one message, and not the log of kubectl', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-plugin-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const script = [
    '#!/bin/sh',
    'echo "E1127 14:20:00.1 42 memcache.go:265] \\"Unhandled Error\\" err=\\"connection refused\\"" >&2',
    'echo "The connection to the server localhost:8080 was refused - did you specify the right host or port?" >&2',
    'exit 1',
  ];
  await writeFile(join(directory, 'kubectl'), `${script.join('\n')}\n`, { mode: 0o755 });
  const launcher = join(root, 'bin', 'kubectl-loopcsi');
  for (const command of ['volumes', 'nodes', 'doctor', 'support-bundle']) {
    const { exitCode, stderr } = await execa(launcher, [command], {
      env: { PATH: `${directory}:${process.env['PATH'] ?? ''}` },
      reject: false,
    });
    t.is(exitCode, 1);
    t.regex(
      stderr,
      /^kubectl loopcsi: kubectl reaches no cluster: The connection .* was refused.*--context.*$/,
    );
  }
});

test('serve after a flag explains the order of arguments', async (t) => {
  const { exitCode, stderr } = await run('--endpoint', '/nowhere/csi.sock', 'serve');
  t.is(exitCode, 2);
  t.regex(stderr, /'serve' must be the first argument/);
});

test('the endpoint comes from the flag, else the environment, else the default', (t) => {
  const environment = { LOOPCSI_ENDPOINT: 'unix:///from/environment' };
  t.is(endpointOf('unix:///from/flag', environment), '/from/flag');
  t.is(endpointOf(undefined, environment), '/from/environment');
  t.is(endpointOf(undefined, {}), '/run/loopcsi/csi.sock');
  t.throws(() => endpointOf('relative', {}), { instanceOf: UsageError, message: /--endpoint/ });
});
