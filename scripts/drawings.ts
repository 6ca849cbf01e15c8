/**
 * Writes the drawings of the documentation and the icon of the chart:  node dist/scripts/drawings.js [--check]
 * With --check, writes nothing and fails if a file differs from what would be written.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { capacityDrawing } from './drawings/capacity.ts';
import { iconDrawing } from './drawings/icon.ts';
import { pathOfDataDrawing } from './drawings/path-of-data.ts';

const directory = join(import.meta.dirname, '..', '..', 'docs', 'images');
const drawings: Readonly<Record<string, string>> = {
  'path-of-data.svg': pathOfDataDrawing(),
  'capacity.svg': capacityDrawing(),
  'icon.svg': iconDrawing(),
};

for (const [name, svg] of Object.entries(drawings)) {
  const path = join(directory, name);
  if (!process.argv.includes('--check')) writeFileSync(path, svg);
  else if (readFileSync(path, 'utf8') !== svg) {
    console.error(`docs/images/${name} is outdated: run 'npm run generate'`);
    process.exitCode = 1;
  }
}
