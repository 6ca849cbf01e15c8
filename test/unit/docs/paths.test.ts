import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';

const root = join(import.meta.dirname, '..', '..', '..', '..');
/** Decisions describe the tree as it was when they were accepted. */
const pages = ['.', 'charts/loopcsi', 'docs'].flatMap((directory) =>
  readdirSync(join(root, directory))
    .filter((name) => name.endsWith('.md') && name !== 'CHANGELOG.md')
    .map((name) => join(directory, name)),
);

/** Paths of the repository in code spans; those with capital letters are placeholders. */
function pathsOf(page: string): readonly string[] {
  const text = readFileSync(join(root, page), 'utf8');
  return [...text.matchAll(/`[^`\n]*?\b((?:src|test|scripts|charts|contrib|bench)\/[\w./-]*\w)/g)]
    .map(([, path = '']) => path)
    .filter((path) => !/[A-Z]/.test(path));
}

test('paths that pages name exist', (t) => {
  const named = pages.flatMap((page) => pathsOf(page).map((path) => ({ page, path })));
  t.true(named.length >= 40, String(named.length));
  const compiled = (path: string): string => path.replace(/\.js$/, '.ts');
  t.deepEqual(
    named.filter(
      ({ page, path }) =>
        !existsSync(join(root, compiled(path))) && !existsSync(join(root, dirname(page), path)),
    ),
    [],
  );
});
