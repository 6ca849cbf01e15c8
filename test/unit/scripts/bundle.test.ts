import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { unbundledPackages } from '../../../scripts/unbundled-packages.ts';

const root = join(import.meta.dirname, '..', '..', '..', '..');

test('packages that are imported lazily are not bundled', (t) => {
  const external: readonly string[] = unbundledPackages;
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' });
  const lazily = sources
    .filter((path) => path.endsWith('.ts'))
    .flatMap((path) => [
      ...readFileSync(join(root, 'src', path), 'utf8').matchAll(/\bimport\('([^.'][^']*)'\)/g),
    ])
    .map((match) => match[1] ?? '')
    .filter((name) => !name.startsWith('node:'));
  t.true(lazily.includes('prom-client'));
  for (const name of lazily) t.true(external.includes(name), name);
});
