import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';

const root = join(import.meta.dirname, '..', '..', '..', '..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const source = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => read(join('src', name)))
  .join('\n');

/** Texts of Docker, and commands. */
const foreign = new Set([
  'error looking up volume plugin loopcsi: plugin not found',
  '…/loopcsi.sock…: connection refused',
  'no such file',
  'EOF',
  'no space left on device',
  'docker volume create',
  'docker volume rm',
]);

/** Code spans in the first column of tables of symptoms. */
function symptomsOf(page: string): readonly string[] {
  const tables = [...read(page).matchAll(/^\| Symptom .*\n\|[-|]+\n((?:\|.*\n)+)/gm)];
  return tables
    .flatMap(([, rows = '']) => rows.trim().split('\n'))
    .flatMap((row) => [...(row.split(' | ')[0] ?? '').matchAll(/`([^`]+)`/g)])
    .map(([, text = '']) => text)
    .filter((text) => !foreign.has(text));
}

/** The constant parts of a message that is quoted with an example of its variable parts. */
function constantPartsOf(message: string): readonly string[] {
  return message
    .split(/…|'x'|\/dev\/loop\d+|\bdm-\d+ \([A-Z-]+\)|\bmd\d+/)
    .map((part) => part.trim())
    .filter((part) => part.length > 2);
}

for (const page of ['docs/docker.md', 'docs/operations.md']) {
  test(`${page} quotes messages of the driver as the code has them`, (t) => {
    const symptoms = symptomsOf(page);
    t.true(symptoms.length >= 4, symptoms.join('\n'));
    t.deepEqual(
      symptoms.flatMap(constantPartsOf).filter((part) => !source.includes(part)),
      [],
    );
  });
}
