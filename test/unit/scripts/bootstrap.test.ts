import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { programs } from '../../../src/host/programs/programs.ts';

const root = join(import.meta.dirname, '..', '..', '..', '..');
const script = join(root, 'scripts', 'bootstrap');
const text = readFileSync(script, 'utf8');

test('the bootstrap installs the package of every program that the driver runs', (t) => {
  const [, listed = ''] = /^run_programs='([^']*)'/m.exec(text) ?? [];
  const rows = listed.split(/\s+/);
  const missing = Object.entries(programs).filter(
    ([program, debianPackage]) => !rows.includes(`${program}:${debianPackage}`),
  );
  t.deepEqual(missing, []);
});

for (const args of [[], ['nonsense'], ['nonsense', 'true']]) {
  test(`called with '${args.join(' ')}' the bootstrap prints its usage and does nothing`, (t) => {
    const { status, stdout, stderr } = spawnSync('sh', [script, ...args], { encoding: 'utf8' });
    t.is(status, 1);
    t.is(stdout, '');
    t.regex(stderr, /^bootstrap: usage: sh scripts\/bootstrap packages\|build\|/);
  });
}

/** Returns a function that runs the bootstrap's functions about policy-rc.d, with the file in a scratch directory. */
function makePolicy(t: ExecutionContext): {
  readonly file: string;
  readonly run: (script: string) => number | null;
} {
  const directory = mkdtempSync(join(tmpdir(), 'loopcsi-policy-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  const file = join(directory, 'policy-rc.d');
  const functions = /^policy=[^]*?(?=^# Installs Debian packages)/m.exec(text)?.[0] ?? '';
  const prepare = `set -eu\n${functions}\npolicy='${file}' profile=docker\nas_root() { "$@"; }\n`;
  return { file, run: (script) => spawnSync('sh', ['-c', prepare + script]).status };
}

test('the policy that forbids daemons is removed, also that of a bootstrap that was killed', (t) => {
  const { file, run } = makePolicy(t);
  t.is(run(`forbid_daemon_starts; sh '${file}' || [ $? -eq 101 ]; allow_daemon_starts`), 0);
  t.false(existsSync(file));
  t.is(run('profile=run; forbid_daemon_starts'), 0);
  t.false(existsSync(file), 'the profile run installs no daemons');
  t.is(run('forbid_daemon_starts; kill -9 $$'), null);
  t.true(existsSync(file));
  t.is(run('remove_stale_policy'), 0);
  t.false(existsSync(file));
});

test('a policy of an administrator stays', (t) => {
  const { file, run } = makePolicy(t);
  writeFileSync(file, '#!/bin/sh\nexit 0\n');
  t.is(run('remove_stale_policy; forbid_daemon_starts; allow_daemon_starts'), 0);
  t.is(readFileSync(file, 'utf8'), '#!/bin/sh\nexit 0\n');
});
