/** Builds the archives of `kubectl loopcsi`, and their manifest. */
import { createHash } from 'node:crypto';
import { chmod, cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { run } from '../command.ts';
import { nodePackages, nodeRelease } from '../node-release.ts';
import { sourceTime } from '../package/build.ts';
import { findPackageClosure } from '../package/closure.ts';
import { makeCopyright } from '../package/copyright.ts';
import { unpackTarball } from '../package/npm-tarball.ts';
import { copyPackage } from '../package/stage.ts';
import { type KrewArchive, krewManifest } from './manifest.ts';

const root = join(import.meta.dirname, '..', '..', '..');

/** The packages that the cluster commands load from node_modules. */
const loadedPackages = ['execa', 'yaml'] as const;

/** Archives for Linux contain Node. npm has no Node for macOS at this release, so that archive needs the user's. */
const targets = {
  'linux-amd64': { os: 'linux', arch: 'amd64', node: nodePackages.x64 },
  'linux-arm64': { os: 'linux', arch: 'arm64', node: nodePackages.arm64 },
  darwin: { os: 'darwin', arch: undefined, node: undefined },
} as const;
export type KrewTarget = keyof typeof targets;
export const krewTargets = Object.keys(targets) as readonly KrewTarget[];

/** Builds the archives and the manifest `loopcsi.yaml` in `output`. Needs the compiled project, and npm's registry for Linux. */
export async function buildKrew(
  version: string,
  output: string,
  wanted: readonly KrewTarget[] = krewTargets,
): Promise<readonly KrewArchive[]> {
  await mkdir(output, { recursive: true });
  const archives: KrewArchive[] = [];
  for (const target of wanted) {
    const { os, arch } = targets[target];
    const file = `kubectl-loopcsi_${version}_${target}.tar.gz`;
    await buildArchive(version, target, join(output, file));
    const sha256 = createHash('sha256')
      .update(await readFile(join(output, file)))
      .digest('hex');
    archives.push({ file, sha256, os, ...(arch === undefined ? {} : { arch }) });
  }
  await writeFile(join(output, 'loopcsi.yaml'), krewManifest(version, archives));
  return archives;
}

async function buildArchive(version: string, target: KrewTarget, path: string): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), 'loopcsi-krew-'));
  try {
    const directory = join(scratch, 'plugin');
    await stagePlugin(version, directory);
    const { node } = targets[target];
    const packages = await findPackageClosure(root, loadedPackages);
    const unpacked = join(scratch, 'node');
    if (node !== undefined) {
      await unpackTarball({ ...node, version: nodeRelease }, unpacked);
      await rename(join(unpacked, 'bin/node'), join(directory, 'bin/node'));
      await chmod(join(directory, 'bin/node'), 0o755);
      const license = await readFile(join(unpacked, 'LICENSE'), 'utf8');
      const facts = { version: nodeRelease, license };
      const copyright = await makeCopyright({ root, packages, node: facts });
      await writeFile(join(directory, 'copyright'), copyright);
    }
    await run('chmod', ['--recursive', 'u=rwX,go=rX', directory]);
    const stable = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner'];
    const mtime = `--mtime=@${await sourceTime()}`;
    await run('tar', [...stable, mtime, '-czf', path, '-C', directory, '.'], {
      timeoutMs: 600_000,
    });
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** What the plugin needs in addition to Node. */
async function stagePlugin(version: string, directory: string): Promise<void> {
  await mkdir(join(directory, 'bin'), { recursive: true });
  for (const program of ['loopcsi', 'kubectl-loopcsi', 'kubectl_complete-loopcsi']) {
    await cp(join(root, 'bin', program), join(directory, 'bin', program));
    await chmod(join(directory, 'bin', program), 0o755);
  }
  await cp(join(root, 'dist/bundle'), join(directory, 'dist/bundle'), { recursive: true });
  for (const one of await findPackageClosure(root, loadedPackages)) {
    await copyPackage(one, join(directory, relative(root, one.directory)));
  }
  const manifest = { name: 'kubectl-loopcsi', version, type: 'module', private: true };
  await writeFile(join(directory, 'package.json'), `${JSON.stringify(manifest)}\n`);
  // krew's index requires the licence in every archive.
  await cp(join(root, 'LICENSE'), join(directory, 'LICENSE'));
}
