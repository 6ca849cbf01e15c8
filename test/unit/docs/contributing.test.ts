import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';

const root = join(import.meta.dirname, '..', '..', '..', '..');
const page = readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8');

/** The steps of a section: the rows of its table that begin with a number. */
function stepsOf(title: string): readonly string[] {
  const [, text = ''] = page.split(`\n## ${title}\n`);
  const [section = ''] = text.split('\n## ');
  return section.split('\n').filter((line) => /^\| \d+ \|/.test(line));
}

/** The code spans of a text. */
function codeIn(text: string): readonly string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);
}

for (const title of ['Adding a StorageClass parameter', 'Adding an RPC']) {
  test(`CONTRIBUTING.md, ${title}: the files of each step contain the names that it mentions`, (t) => {
    const steps = stepsOf(title);
    t.true(steps.length >= 10);
    for (const step of steps) {
      const [, , where = '', change = ''] = step.split('|');
      const files = codeIn(`${where} ${change}`).filter((code) => /\/.*\.(?:ts|proto)$/.test(code));
      t.deepEqual(
        files.filter((file) => !existsSync(join(root, file))),
        [],
      );
      const texts = files.map((file) => readFileSync(join(root, file), 'utf8'));
      const names = codeIn(change).filter((code) => /^[a-z]+[A-Z]\w*$|^[A-Z]\w*$/.test(code));
      const missing = names.filter(
        (name) => !texts.some((text) => new RegExp(`\\b${name}\\b`).test(text)),
      );
      t.deepEqual(missing, [], step);
    }
  });
}
