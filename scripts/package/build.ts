/** Builds the packages with nfpm from the files that stage.ts collects. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attempt, run } from '../command.ts';
import { stageFiles, stageVersion } from './stage.ts';

const root = join(import.meta.dirname, '..', '..', '..');

/** Processors as Debian and nfpm call them, and as Node does. */
const nodeArchs = { amd64: 'x64', arm64: 'arm64' } as const;
export type PackageArch = keyof typeof nodeArchs;
export const packageArchs: readonly PackageArch[] = ['amd64', 'arm64'];

export interface PackageOptions {
  readonly arch: PackageArch;
  readonly versions: readonly string[];
  readonly output: string;
}

/** Builds a .deb and an .rpm of each version, and returns their paths in this order. Needs nfpm and go-md2man on the PATH, npm's registry, and the compiled driver. */
export async function buildPackages(options: PackageOptions): Promise<readonly string[]> {
  const { arch, versions, output } = options;
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-package-'));
  try {
    const seconds = await sourceTime();
    const date = new Date(seconds * 1000).toISOString().slice(0, 10);
    await stageFiles({ root, directory, arch: nodeArchs[arch] });
    await mkdir(output, { recursive: true });
    const paths: string[] = [];
    for (const version of versions) {
      await stageVersion({ root, directory, version, date });
      const env = { ARCH: arch, VERSION: version, SOURCE_DATE_EPOCH: String(seconds) };
      for (const format of ['deb', 'rpm']) paths.push(await pack(format, directory, output, env));
    }
    return paths;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Runs nfpm in the staging directory, and returns the path of the package. */
async function pack(
  format: string,
  directory: string,
  output: string,
  env: Readonly<Record<string, string>>,
): Promise<string> {
  const args = ['package', '--config=nfpm.yaml', `--packager=${format}`, `--target=${output}/`];
  const said = await run('nfpm', args, { cwd: directory, env });
  const path = /created package: (.*)/.exec(said)?.[1];
  if (path === undefined) throw new Error(`nfpm did not name the package:\n${said}`);
  return path;
}

/** The time of the last commit in seconds since 1970, so that the same commit gives the same package; without git, the present. */
export async function sourceTime(): Promise<number> {
  const set = Number(process.env['SOURCE_DATE_EPOCH']);
  if (set > 0) return set;
  const log = await attempt('git', ['log', '-1', '--format=%ct'], { cwd: root }).catch(
    () => undefined,
  );
  const seconds = Number(log?.stdout.trim());
  return seconds > 0 ? seconds : Math.floor(Date.now() / 1000);
}
