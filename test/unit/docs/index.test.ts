import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';

const docs = join(import.meta.dirname, '..', '..', '..', '..', 'docs');
const pages = readdirSync(docs).filter((name) => name.endsWith('.md') && name !== 'index.md');

test('docs/index.md lists every page', (t) => {
  const text = readFileSync(join(docs, 'index.md'), 'utf8');
  t.deepEqual(
    pages.filter((page) => !text.includes(`(${page})`)),
    [],
  );
});

test('the sidebar of the site lists every page', (t) => {
  const text = readFileSync(join(docs, '.vitepress', 'config.ts'), 'utf8');
  const isListed = (page: string): boolean =>
    new RegExp(`^ +'?${page.replace(/\.md$/, '')}'?: '`, 'm').test(text);
  t.deepEqual(
    pages.filter((page) => !isListed(page)),
    [],
  );
});
