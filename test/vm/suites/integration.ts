import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Suite } from '../suite.ts';

/** Files that do not run in the machine, and why; all others do, new ones too. Measured times are in docs/tested-on.md. */
export const leftOut: Readonly<Record<string, string>> = {};

function testsOfDirectory(): readonly string[] {
  const directory = join(import.meta.dirname, '..', '..', 'integration');
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => name.replace(/\.js$/, ''))
    .filter((name) => !(name in leftOut))
    .map((name) => `integration/${name}`)
    .sort();
}

export const suite: Suite = {
  name: 'integration',
  about: 'the integration tests, but those that are about speed or take hours under emulation',
  minutes: 120,
  inside: { tests: testsOfDirectory(), idleMinutes: 15 },
};
