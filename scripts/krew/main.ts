/** `npm run krew` builds the archives of `kubectl loopcsi` and the manifest with which krew installs them. */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import * as v from 'valibot';
import { buildKrew } from './build.ts';

const root = join(import.meta.dirname, '..', '..', '..');

const program = new Command('npm run krew --')
  .description('Builds the archives of kubectl loopcsi, and their manifest loopcsi.yaml.')
  .option('--output <dir>', 'directory for the files', join(root, 'dist/krew'))
  .parse();
const { output } = program.opts<{ readonly output: string }>();

const manifest: unknown = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
const { version } = v.parse(v.object({ version: v.string() }), manifest);
const archives = await buildKrew(version, resolve(output));
for (const { file } of archives) console.log(join(resolve(output), file));
console.log(join(resolve(output), 'loopcsi.yaml'));
