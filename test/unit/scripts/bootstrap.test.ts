import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
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
