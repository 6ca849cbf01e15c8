import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'ava';

const project = join(import.meta.dirname, '..', '..', '..');

/** An installation whose Nodes print their own path below it and their arguments. */
function install(...nodes: readonly string[]) {
  const root = mkdtempSync(join(tmpdir(), 'loopcsi-launcher-'));
  const write = (path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text, { mode: 0o755 });
  };
  cpSync(join(project, 'bin/loopcsi'), join(root, 'bin/loopcsi'));
  write('dist/bundle/main.js', '');
  for (const path of nodes) write(path, '#!/bin/sh\necho "${0#"$ROOT"/} $UV_THREADPOOL_SIZE $*"\n');
  const run = (variables: Readonly<Record<string, string>> = {}) =>
    spawnSync(join(root, 'bin/loopcsi'), ['serve'], {
      encoding: 'utf8',
      env: { ROOT: root, PATH: join(root, 'path'), ...variables },
    });
  return { root, run, remove: () => rmSync(root, { recursive: true }) };
}

const cases = [
  { title: 'the Node on the PATH', nodes: ['path/node'], expect: 'path/node' },
  {
    title: 'the Node that the bootstrap recorded',
    nodes: ['path/node', 'dist/node'],
    expect: 'dist/node',
  },
  {
    title: 'the Node of a package',
    nodes: ['path/node', 'dist/node', 'bin/node'],
    expect: 'bin/node',
  },
] as const;
for (const { title, nodes, expect } of cases) {
  test(`the launcher runs ${title}, with 64 threads`, (t) => {
    const { root, run, remove } = install(...nodes);
    t.teardown(remove);
    const { stdout, stderr } = run();
    t.is(stdout, `${expect} 64 --enable-source-maps ${root}/dist/bundle/main.js serve\n`, stderr);
  });
}

test('LOOPCSI_NODE names another Node', (t) => {
  const { root, run, remove } = install('path/node', 'dist/node', 'other/node');
  t.teardown(remove);
  t.regex(run({ LOOPCSI_NODE: join(root, 'other/node') }).stdout, /^other\/node /);
});

test('a recorded Node that is gone is an error, since the one on the PATH is too old', (t) => {
  const { root, run, remove } = install('path/node');
  t.teardown(remove);
  symlinkSync('/nonexistent/node', join(root, 'dist/node'));
  const { status, stderr } = run();
  t.is(status, 1);
  t.regex(stderr, /dist\/node leads to a Node that does not exist .* scripts\/bootstrap build/);
});

test('without any Node, the launcher says what to do', (t) => {
  const { run, remove } = install();
  t.teardown(remove);
  const { status, stderr } = run();
  t.is(status, 1);
  t.regex(stderr, /^loopcsi: Node is not on the PATH; install Node 20\.19 or later/);
});
