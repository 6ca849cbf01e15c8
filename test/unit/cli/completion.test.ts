import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { execa } from 'execa';
import { expectedNext } from '../../../src/cli/completion/candidates.ts';
import { hooks } from '../../../src/cli/completion/hooks.ts';
import { namesOf } from '../../../src/cli/completion/names.ts';
import { joinBashWords, typedLine } from '../../../src/cli/completion/words.ts';
import { makeProgram } from '../../../src/cli/program.ts';
import { Session } from '../../../src/cli/session.ts';
import { Terminal } from '../../../src/cli/terminal.ts';
import type { Volume } from '../../../src/csi/admin-types.ts';
import { decode, encode, messageType } from '../../../src/csi/codec.ts';

const launcher = join(import.meta.dirname, '..', '..', '..', '..', 'bin', 'loopcsi');

const program = makeProgram(
  new Session({
    terminal: new Terminal(
      { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() },
      {},
    ),
    environment: {},
    version: '1',
  }),
);

function expectedAfter(...words: readonly string[]) {
  const { candidates, ...rest } = expectedNext(program, typedLine(words));
  return { ...rest, values: candidates.map(({ value }) => value) };
}

const offered = [
  { words: ['vol'], value: 'volume' },
  { words: ['volume', 'exp'], value: 'export' },
  { words: ['--json', 'volume', 'unm'], value: 'unmount' },
  { words: ['-o', 'yaml', 'volume', 'unm'], value: 'unmount' },
  { words: ['volume', 'expand', '--s'], value: '--size' },
  { words: ['volume', 'expand', 'data', '--s'], value: '--size' },
  { words: ['volume', 'create', '--size', '1Gi', 'data', '--fs'], value: '--fstype' },
  { words: ['volume', 'create', '--size=1Gi', 'data', ''], value: '--fstype' },
  { words: ['volume', 'delete', 'a', 'b', '--y'], value: '--yes' },
  { words: ['volume', 'ls', '--end'], value: '--endpoint' },
  { words: ['volume', 'create', 'data', '--fstype', ''], value: 'xfs' },
  { words: ['volume', 'create', 'data', '--provisioning', ''], value: 'thick' },
  { words: ['volume', 'list', '-ojson', '--sort', ''], value: 'mounted-at' },
  { words: ['serve', '--log-level', 'd'], value: 'debug' },
  { words: ['help', 'snapshot', ''], value: 'restore' },
  { words: ['completion', ''], value: 'fish' },
  { words: ['-o', ''], value: 'wide' },
  { words: ['cluster', 'vol'], value: 'volumes' },
] as const;
for (const { words, value } of offered) {
  test(`expectedNext: ${words.join(' ')} offers ${value}`, (t) => {
    t.true(expectedAfter(...words).values.includes(value));
  });
}

const names = [
  { words: ['volume', 'get', ''], expected: { names: 'volumes' } },
  { words: ['volume', 'delete', 'a', 'b', ''], expected: { names: 'volumes' } },
  { words: ['volume', 'get', '--', '-'], expected: { names: 'volumes' } },
  { words: ['volume', 'list', 'def'], expected: { names: 'claims' } },
  { words: ['snapshot', 'diff', 'a', ''], expected: { names: 'snapshots' } },
  { words: ['volume', 'create', 'a', '--pool', ''], expected: { names: 'pools' } },
  { words: ['volume', 'create', 'a', '--pool='], expected: { names: 'pools', prefix: '--pool=' } },
  { words: ['volume', 'create', 'a', '--from', 'v'], expected: { names: 'sources' } },
  { words: ['volume', 'mount', 'a', '/'], expected: { paths: 'directories' } },
  { words: ['doctor', '--config', ''], expected: { paths: 'files' } },
  { words: ['volume', 'import', 'a', '/s'], expected: { paths: 'files' } },
  { words: ['volume', 'import', '--size', '1Gi', 'a', ''], expected: { paths: 'files' } },
  { words: ['volume', 'import-rawfile', ''], expected: { paths: 'directories' } },
  {
    words: ['--endpoint', 'unix:///s', 'volume', 'get', ''],
    expected: { names: 'volumes', given: { '--endpoint': 'unix:///s' } },
  },
  { words: ['volume', 'get', '--endpoint=/s', ''], expected: { given: { '--endpoint': '/s' } } },
  {
    words: ['cluster', '--context=c', 'run', 'n'],
    expected: { names: 'nodes', given: { '--context': 'c' } },
  },
  { words: ['cluster', 'volumes', '--node='], expected: { names: 'nodes', prefix: '--node=' } },
  { words: ['cluster', 'volumes', '-n', ''], expected: { names: 'namespaces' } },
  { words: ['cluster', '--context', ''], expected: { names: 'contexts' } },
  { words: ['volume', 'create', ''], expected: { values: [] } },
  { words: ['volume', 'expand', 'a', '--size', ''], expected: { values: [] } },
  { words: ['volume', 'nonsense', ''], expected: { values: [] } },
  { words: ['volume', '--nonsense', ''], expected: { values: [] } },
] as const;
for (const { words, expected } of names) {
  test(`expectedNext: ${words.join(' ')} expects ${JSON.stringify(expected)}`, (t) => {
    t.like(expectedAfter(...words), expected);
  });
}

for (const { words, line } of [
  { words: ['--fstype', '=', 'x'], line: { before: [], current: '--fstype=x', keptLength: 9 } },
  { words: ['--fstype', '='], line: { before: [], current: '--fstype=', keptLength: 9 } },
  {
    words: ['--from', 'snapshot', ':', 'a', ''],
    line: { before: ['--from', 'snapshot:a'], current: '', keptLength: 0 },
  },
  {
    words: ['volume', 'get', 'data', '@', 'h'],
    line: { before: ['volume', 'get'], current: 'data@h', keptLength: 5 },
  },
  {
    words: ['--endpoint', 'unix', ':', '/s', 'vol'],
    line: { before: ['--endpoint', 'unix:/s'], current: 'vol', keptLength: 0 },
  },
]) {
  test(`joinBashWords: ${words.join(' ')}`, (t) => {
    t.deepEqual(joinBashWords(words), line);
  });
}

/** What bash puts in place of the last of these words, with its own hook and the built program. */
async function completedByBash(...words: readonly string[]): Promise<readonly string[]> {
  const script = [
    hooks.bash,
    'command=$1; shift',
    'COMP_WORDS=("$command" "$@"); COMP_CWORD=$#',
    '_loopcsi "$command" 2>/dev/null',
    'printf "%s\\n" "${COMPREPLY[@]}"',
  ].join('\n');
  const { stdout } = await execa('bash', ['-c', script, 'bash', launcher, ...words], {
    env: { LOOPCSI_ENDPOINT: 'unix:///nowhere/csi.sock' },
  });
  return stdout.split('\n').filter((word) => word !== '');
}

test('bash completes commands, flags and values; without a driver no names and no message', async (t) => {
  t.deepEqual(await completedByBash('volume', 'exp'), ['export', 'expand']);
  t.deepEqual(await completedByBash('volume', 'create', 'data', '--fs'), ['--fstype']);
  t.deepEqual(await completedByBash('volume', 'create', '--fstype', '=', 'x'), ['xfs']);
  t.deepEqual(await completedByBash('volume', 'get', ''), []);
});

test('bash evaluates no word of the line', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-completion-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const made = join(directory, 'made');
  t.deepEqual(await completedByBash('volume', 'get', `$(touch ${made})`, '--js'), ['--json']);
  await t.throwsAsync(access(made));
  // The hook can be read again, as a shell's start-up file does that is read twice.
  await writeFile(join(directory, 'hook'), `${hooks.bash}\n${hooks.bash}`);
  await execa('bash', ['-e', join(directory, 'hook')]);
});

test('volumes are completed by name and by claim', async (t) => {
  const type = messageType('loopcsi.v1.Volume');
  const volume = (fields: object): Volume =>
    decode(type, encode(type, { pool: 'a', kind: 'MOUNT', fs_type: 'ext4', ...fields })) as Volume;
  const volumes = [
    volume({ name: 'pvc-1', owner: { namespace: 'default', claim: 'data' } }),
    volume({ name: 'csi-1', owner: { namespace: 'default', pod: 'web-0' } }),
    volume({ name: 'plain' }),
  ];
  const admin = {
    ListVolumes: async () => ({ volumes, next_token: '' }),
    ListSnapshots: async () => ({ snapshots: [], next_token: '' }),
    ListPools: async () => ({ pools: [] }),
    ListGroupSnapshots: async () => ({ group_snapshots: [] }),
  };
  const valuesOf = async (kind: Parameters<typeof namesOf>[1]) =>
    (await namesOf(admin, kind)).map(({ value }) => value);
  t.deepEqual(await valuesOf('volumes'), ['pvc-1', 'default/data', 'csi-1', 'plain']);
  t.deepEqual(await valuesOf('claims'), ['default/data']);
});

/** What bin/kubectl_complete-loopcsi prints, with a kubectl that knows one node. */
async function completedForKubectl(
  t: ExecutionContext,
  ...words: readonly string[]
): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-completion-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const kubectl = '#!/bin/sh\n[ "$3" = nodes ] && echo node/n1\n';
  await writeFile(join(directory, 'kubectl'), kubectl, { mode: 0o755 });
  const program = join(launcher, '..', 'kubectl_complete-loopcsi');
  const { stdout } = await execa(program, words, {
    env: { PATH: `${directory}:${process.env['PATH'] ?? ''}` },
  });
  return stdout;
}

test('kubectl gets commands, flags, values and names, each with its directive', async (t) => {
  t.regex(await completedForKubectl(t, 'vol'), /^volumes\tlist the volumes.*\n:4$/);
  t.is(await completedForKubectl(t, 'volumes', '--sort', 'po'), 'pod\npool\n:4');
  t.regex(await completedForKubectl(t, 'doctor', '--qu'), /^--quiet\t.*\n:4$/);
  t.is(await completedForKubectl(t, 'run', ''), 'n1\n:4');
  t.is(await completedForKubectl(t, 'volumes', '--node='), 'n1\n:4', 'without the flag');
  t.is(await completedForKubectl(t, 'volumes', '-n', ''), ':4');
  t.is(await completedForKubectl(t, '--kubeconfig', ''), ':0', 'files');
  t.is(await completedForKubectl(t, 'support-bundle', ''), ':16', 'directories');
  const offered = await completedForKubectl(t, '');
  t.notRegex(offered, /^complete\b/m);
});
