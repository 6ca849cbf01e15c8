import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { isPromisedOutput, pageBlocks } from '../../helpers/page-blocks.ts';

/** Every command block of these pages is run by a suite, or says why not. */
const root = join(import.meta.dirname, '..', '..', '..', '..');
const pages = [
  'README.md',
  'docs/platforms.md',
  'docs/tasks.md',
  'docs/csi-sanity.md',
  'docs/docker.md',
  'docs/import-export.md',
  'docs/kubernetes.md',
  'docs/several-machines.md',
];
/** Each suite, and the file that runs its blocks. */
const suites: Readonly<Record<string, string>> = {
  machine: 'test/integration/pages.test.ts',
  machines: 'test/integration/several-machines.test.ts',
  docker: 'test/docker/volumes.test.ts',
  kubernetes: 'test/e2e/scenarios/install/install.test.ts',
};

const blocks = pages.flatMap((page) => pageBlocks(page, readFileSync(join(root, page), 'utf8')));

for (const page of pages) {
  test(`${page}: every command block is run, or says why not`, (t) => {
    const own = blocks.filter((block) => block.page === page);
    t.true(own.length > 0);
    const unsaid = own.filter(
      ({ suite, reasonNotToRun }) =>
        reasonNotToRun === undefined && (suite === undefined || suites[suite] === undefined),
    );
    t.deepEqual(
      unsaid.map(({ line, commands }) => `${page}:${line}: ${commands.split('\n')[0] ?? ''}`),
      [],
    );
  });
}

test('every suite runs the blocks of each page that names it', (t) => {
  for (const { page, suite } of blocks) {
    if (suite === undefined) continue;
    const file = suites[suite] ?? '';
    const text = readFileSync(join(root, file), 'utf8');
    t.true(text.includes(`'${page}'`), `${file} does not run ${page}`);
  }
});

const page = [
  '<!-- runs: machine, after: mkdir a && cd a -->',
  '```sh',
  'one',
  'two',
  '```',
  '',
  '```text',
  'size 97…M',
  '```',
  'Text.',
  '1. Item:',
  '',
  '   <!-- not run: it needs a disk -->',
  '   ```sh',
  '   three',
  '     four',
  '   ```',
  '',
  '```sh',
  'five',
  '```',
  'no output block directly after it',
  '```text',
  'x',
  '```',
].join('\n');

test('blocks are found with their comments, outputs and indentation', (t) => {
  const [first, second, third, ...others] = pageBlocks('a.md', page);
  t.deepEqual(others, []);
  t.like(first, {
    line: 3,
    commands: 'one\ntwo',
    suite: 'machine',
    setUp: 'mkdir a && cd a',
    output: 'size 97…M',
  });
  t.like(second, {
    commands: 'three\n  four',
    reasonNotToRun: 'it needs a disk',
    suite: undefined,
  });
  t.like(third, {
    commands: 'five',
    suite: undefined,
    reasonNotToRun: undefined,
    output: undefined,
  });
});

test('a promised output is compared line by line', (t) => {
  t.true(isPromisedOutput('/dev/loop…  97…M /data', '/dev/loop12    975.1M   /data\n'));
  t.false(isPromisedOutput('a', 'a\nb'));
  t.false(isPromisedOutput('a.c', 'abc'));
  t.false(isPromisedOutput('a…', 'ba'));
});
