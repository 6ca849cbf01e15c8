/** The built project and the files that its tests need, as a filesystem image that the machine mounts at /payload. */
import { chmod, copyFile, cp, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { projectRoot } from '../../e2e/cluster/cache.ts';
import { runContained } from './contained.ts';
import type { Programs } from './programs.ts';

/** Directories and files of the project that a test reads. The sources are not among them, since dist/ is run. */
const parts = ['bin', 'charts', 'contrib', 'csi-proto', 'dist', 'docs', 'package.json'];

/** Packages that only build and check the project, which would make up most of the size. */
const buildPackages =
  /^(?:@biomejs|@esbuild|@oxlint(?:-tsgolint)?|@typescript|esbuild|oxlint(?:-tsgolint)?|typescript|\..*)$/;

const imageBytes = '2G';

/** Writes the image to `DIRECTORY/payload.img` and returns its path. Needs only the build. */
export async function makePayload(
  directory: string,
  programs: Programs,
  signal: AbortSignal,
): Promise<string> {
  const tree = join(directory, 'payload');
  const copy = async (from: string, to: string): Promise<void> =>
    cp(from, join(tree, to), {
      recursive: true,
      preserveTimestamps: true,
      verbatimSymlinks: true,
    });
  await mkdir(join(tree, 'node_modules'), { recursive: true });
  for (const part of parts) await copy(join(projectRoot, part), part);
  // The link to the host's Node, if there is one.
  await rm(join(tree, 'dist/node'), { force: true });
  const packages = join(projectRoot, 'node_modules');
  for (const name of await readdir(packages)) {
    if (!buildPackages.test(name)) await copy(join(packages, name), `node_modules/${name}`);
  }
  const { node, csiSanity, koffi } = programs;
  if (koffi !== undefined) await copy(koffi.directory, `node_modules/${koffi.name}`);
  // Files that only the machine needs are in a separate directory, which is also its cache directory.
  await mkdir(join(tree, '.vm/bin'), { recursive: true });
  await copyFile(join(projectRoot, 'test/vm/machine/boot.sh'), join(tree, '.vm/boot.sh'));
  await chmod(join(tree, '.vm/boot.sh'), 0o755);
  await copyFile(node, join(tree, '.vm/bin/node'));
  await copyFile(csiSanity, join(tree, '.vm/bin/csi-sanity'));
  const image = join(directory, 'payload.img');
  await runContained(['truncate', `--size=${imageBytes}`, image], { signal });
  await runContained(['mke2fs', '-q', '-F', '-t', 'ext4', '-d', tree, image], { signal });
  await rm(tree, { recursive: true });
  return image;
}
