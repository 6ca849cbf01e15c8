/** Fills a directory with the files that the packages install, for nfpm. */
import { chmod, cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { gzipSync } from 'node:zlib';
import * as v from 'valibot';
import { run } from '../command.ts';
import { nodePackages, nodeRelease } from '../node-release.ts';
import { unbundledPackages } from '../unbundled-packages.ts';
import { findPackageClosure, type InstalledPackage } from './closure.ts';
import { makeCopyright } from './copyright.ts';
import { makeManPage } from './man-page.ts';
import { unpackTarball } from './npm-tarball.ts';

export type NodeArch = keyof typeof nodePackages;

export interface StageOptions {
  /** The project's root, with the compiled driver and its bundle. */
  readonly root: string;
  readonly directory: string;
  readonly arch: NodeArch;
}

interface VersionOptions extends Omit<StageOptions, 'arch'> {
  readonly version: string;
  readonly date: string;
}

const manifestShape = v.looseObject({
  version: v.string(),
  dependencies: v.record(v.string(), v.string()),
});
const lockShape = v.object({
  packages: v.record(
    v.string(),
    v.object({ version: v.optional(v.string()), integrity: v.optional(v.string()) }),
  ),
});

/**
 * Creates `directory/root`, and copies the configuration and scripts of the packages beside it. The files that name the version come
 * from `stageVersion`.
 */
export async function stageFiles(options: StageOptions): Promise<void> {
  const { root, directory } = options;
  await cp(join(root, 'contrib/package'), directory, { recursive: true });
  const usr = join(directory, 'root/usr');
  await stageLibrary(options, join(usr, 'lib/loopcsi'));
  await stageDocs(options, join(usr, 'share'));
  await stageSystemFiles(options, join(directory, 'root'));
  await stageCompletion(root, join(usr, 'share'));
  await normalizeModes(directory);
}

/** Writes the files that name the version, or replaces those of another version. */
export async function stageVersion(options: VersionOptions): Promise<void> {
  const { root, directory, version, date } = options;
  const usr = join(directory, 'root/usr');
  const { name, type, license } = await readManifest(root);
  const manifest = { name, version, type, license, private: true };
  const text = `${JSON.stringify(manifest, undefined, 2)}\n`;
  await writeFile(join(usr, 'lib/loopcsi/package.json'), text);
  const page = await makeManPage({
    version,
    date,
    commandLine: await readText(root, 'docs/command-line.md'),
    configuration: await readText(root, 'docs/configuration.md'),
  });
  await writeCompressed(join(usr, 'share/man/man8/loopcsi.8.gz'), page);
  await normalizeModes(directory);
}

/** The umask of the builder, and that of the clone's owner, must not change the packages. */
async function normalizeModes(directory: string): Promise<void> {
  await run('chmod', ['--recursive', 'u=rwX,go=rX', join(directory, 'root')]);
}

/** The driver, the packages that it loads, Node, and koffi's library. */
async function stageLibrary(
  { root, arch, directory }: StageOptions,
  library: string,
): Promise<void> {
  await mkdir(join(library, 'bin'), { recursive: true });
  for (const program of ['loopcsi', 'kubectl-loopcsi', 'kubectl_complete-loopcsi']) {
    await copyAs(join(root, 'bin', program), join(library, 'bin', program), 0o755);
  }
  await cp(join(root, 'dist/bundle'), join(library, 'dist/bundle'), { recursive: true });
  for (const one of await findPackageClosure(root, unbundledPackages)) {
    await copyPackage(one, join(library, relative(root, one.directory)));
  }
  const koffi = `@koromix/koffi-linux-${arch}`;
  const koffiPath = join(library, 'node_modules', koffi);
  await unpackTarball({ name: koffi, ...(await lockedVersion(root, koffi)) }, koffiPath);
  // The packages' Node needs glibc.
  await rm(join(koffiPath, `musl_${arch}`), { recursive: true });

  const node = join(directory, 'node');
  await unpackTarball({ ...nodePackages[arch], version: nodeRelease }, node);
  await rename(join(node, 'bin/node'), join(library, 'bin/node'));
  await chmod(join(library, 'bin/node'), 0o755);
}

/** Parts of packages that are not loaded: sources of native code, types, texts. Licences are in the copyright file. */
const unusedParts =
  /\/koffi\/(?:vendor|lib|doc)$|\.(?:d\.[cm]?ts|map|md|markdown|cc|hh|asm|S|inc|npmignore)$/;

/** Dependencies below the package's own `node_modules` are members of the closure themselves. */
export async function copyPackage({ directory }: InstalledPackage, target: string): Promise<void> {
  const nested = join(directory, 'node_modules');
  await cp(directory, target, {
    recursive: true,
    filter: (path) => path !== nested && !unusedParts.test(path),
  });
}

async function readManifest(root: string): Promise<v.InferOutput<typeof manifestShape>> {
  return v.parse(manifestShape, JSON.parse(await readFile(join(root, 'package.json'), 'utf8')));
}

/** Throws an Error if package-lock.json lacks the package. */
export async function lockedVersion(
  root: string,
  name: string,
): Promise<{ readonly version: string; readonly integrity: string }> {
  const lock = v.parse(
    lockShape,
    JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8')),
  );
  const { version, integrity } = lock.packages[`node_modules/${name}`] ?? {};
  if (version === undefined || integrity === undefined) {
    throw new Error(`package-lock.json has no version and checksum of ${name}`);
  }
  return { version, integrity };
}

async function stageDocs(options: StageOptions, share: string): Promise<void> {
  const { root, directory } = options;
  const doc = join(share, 'doc/loopcsi');
  await mkdir(doc, { recursive: true });
  for (const page of ['README.md', ...(await docPages(root))]) {
    await copyAs(join(root, page), join(doc, page), 0o644);
  }
  await writeCompressed(join(doc, 'changelog.gz'), await readText(root, 'CHANGELOG.md'));
  const { dependencies } = await readManifest(root);
  const license = await readText(directory, 'node/LICENSE');
  const packages = await findPackageClosure(root, Object.keys(dependencies));
  const node = { version: nodeRelease, license };
  await writeFile(join(doc, 'copyright'), await makeCopyright({ root, packages, node }));
}

/** The pages and their drawings, without the decisions and the files of the site. */
async function docPages(root: string): Promise<readonly string[]> {
  const pages = (await readdir(join(root, 'docs'))).filter((name) => name.endsWith('.md'));
  const drawings = await readdir(join(root, 'docs/images'));
  return [...pages.map((name) => `docs/${name}`), ...drawings.map((name) => `docs/images/${name}`)];
}

async function stageSystemFiles({ root }: StageOptions, target: string): Promise<void> {
  const unit = await readText(root, 'contrib/systemd/loopcsi.service');
  await writeNew(join(target, 'usr/lib/systemd/system/loopcsi.service'), packageUnit(unit));
  await copyAs(
    join(root, 'contrib/udev/10-loopcsi.rules'),
    join(target, 'usr/lib/udev/rules.d/10-loopcsi.rules'),
    0o644,
  );
  await copyAs(join(root, 'contrib/package/loopcsi.yaml'), join(target, 'etc/loopcsi.yaml'), 0o644);
}

/** The unit with the paths and the manual page of a package. Throws an Error if the unit lacks what is replaced. */
export function packageUnit(unit: string): string {
  const replaced = unit
    .replace(/^ExecStart=\/usr\/local\/bin\/loopcsi /m, 'ExecStart=/usr/bin/loopcsi ')
    .replace(/^Documentation=.*/m, 'Documentation=man:loopcsi(8)');
  if (!replaced.includes('ExecStart=/usr/bin/') || !replaced.includes('man:loopcsi(8)')) {
    throw new Error(
      'contrib/systemd/loopcsi.service has no ExecStart= or Documentation= to replace',
    );
  }
  return replaced;
}

/** The names under which each shell looks for the script of a command. */
const completionFiles = {
  bash: 'bash-completion/completions/loopcsi',
  zsh: 'zsh/_loopcsi',
  fish: 'fish/vendor_completions.d/loopcsi.fish',
} as const;

async function stageCompletion(root: string, share: string): Promise<void> {
  for (const [shell, path] of Object.entries(completionFiles)) {
    const script = await run(join(root, 'bin/loopcsi'), ['completion', shell]);
    // zsh reads the name of the command from the first line.
    const tag = shell === 'zsh' && !script.startsWith('#compdef') ? '#compdef loopcsi\n' : '';
    await writeNew(join(share, path), `${tag}${script}\n`);
  }
}

function readText(directory: string, path: string): Promise<string> {
  return readFile(join(directory, path), 'utf8');
}

/** Without a time in the header, so that the same sources give the same file. */
async function writeCompressed(path: string, text: string): Promise<void> {
  await writeNew(path, gzipSync(text, { level: 9 }));
}

async function writeNew(path: string, content: string | Buffer): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
}

async function copyAs(from: string, to: string, mode: number): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await cp(from, to);
  await chmod(to, mode);
}
