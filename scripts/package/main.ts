/**
 * `npm run package` builds a .deb and an .rpm. They contain Node, so the machine on which they are installed needs none. Packages
 * for another processor can be built too, because Node and koffi's library come compiled from npm.
 */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { arch } from 'node:process';
import { Command, Option } from 'commander';
import * as v from 'valibot';
import { buildPackages, type PackageArch, packageArchs } from './build.ts';

const root = join(import.meta.dirname, '..', '..', '..');

interface Options {
  readonly arch?: PackageArch;
  readonly setVersion?: string;
  readonly output: string;
}

const program = new Command('npm run package --')
  .description('Builds a .deb and an .rpm.')
  .addOption(
    new Option('--arch <arch>', "processor; default: this machine's").choices(packageArchs),
  )
  .option('--set-version <version>', 'version of the packages; default: that of package.json')
  .option('--output <dir>', 'directory for the packages', join(root, 'dist/packages'))
  .parse();
const options = program.opts<Options>();

const manifest: unknown = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
const { version } = v.parse(v.object({ version: v.string() }), manifest);
const paths = await buildPackages({
  arch: options.arch ?? (arch === 'arm64' ? 'arm64' : 'amd64'),
  versions: [options.setVersion ?? version],
  output: resolve(options.output),
});
for (const path of paths) console.log(path);
