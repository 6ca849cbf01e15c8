/** Builds the driver's image from the Dockerfile with buildah and local base images, without a registry. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { attempt, run } from '../../scripts/command.ts';
import { baseImages } from './base.ts';
import { writeSbom } from './sbom.ts';

export interface BuildOptions {
  /** The project's root. */
  readonly context: string;
  /** Full name of the image, with its tag. */
  readonly name: string;
  /** Directory with the archives of `makeBaseImages`. */
  readonly bases: string;
  /** buildah's storage, whose layers are reused by later builds. */
  readonly storage: string;
  /** Directory for `driver.tar` and `sbom.cdx.json`. */
  readonly output: string;
  readonly version: string;
  readonly revision: string;
}

/** Chroot isolation needs root, but neither namespaces nor a container runtime. */
export async function buildDriverImage(options: BuildOptions): Promise<void> {
  const buildah = async (...args: string[]): Promise<string> => {
    const [command = '', ...rest] = args;
    const storage = [
      `--root=${join(options.storage, 'root')}`,
      `--runroot=${join(options.storage, 'run')}`,
    ];
    return run('buildah', [...storage, command, ...rest], { timeoutMs: 900_000 });
  };
  for (const { archive } of Object.values(baseImages)) {
    await buildah('pull', '--quiet', `docker-archive:${join(options.bases, archive)}`);
  }
  const buildArguments = {
    NODE_IMAGE: baseImages.node.name,
    RUNTIME_IMAGE: baseImages.debian.name,
    VERSION: options.version,
    REVISION: options.revision,
  };
  const flags = ['--isolation=chroot', '--pull-never', '--layers', `--tag=${options.name}`];
  const given = Object.entries(buildArguments).map(([key, value]) => `--build-arg=${key}=${value}`);
  await buildah('build', ...flags, ...given, options.context);
  const archive = join(options.output, 'driver.tar');
  await rm(archive, { force: true });
  await buildah('push', '--quiet', options.name, `docker-archive:${archive}:${options.name}`);
  const container = (await buildah('from', '--pull-never', options.name)).trim();
  try {
    const root = (await buildah('mount', container)).trim();
    await writeSbom(root, join(options.output, 'sbom.cdx.json'));
  } finally {
    // A build leaves the containers of its earlier stages mounted, and buildah leaves its storage mounted. Neither could be
    // removed later.
    await buildah('rm', '--all');
    await attempt('umount', [join(options.storage, 'root', 'overlay')]);
  }
}
