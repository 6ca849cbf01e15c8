/** Builds the driver's image with `npm run image` and local base images, without a registry. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { attempt, type CommandResult, run } from '../../scripts/command.ts';
import { baseImages } from './base.ts';

const command = join(import.meta.dirname, '..', '..', 'scripts', 'image', 'main.js');
const timeoutMs = 900_000;

export interface BuildOptions {
  /** Directory with the archives of `makeBaseImages`. */
  readonly bases: string;
  /** buildah's storage, whose layers are reused by later builds. */
  readonly storage: string;
  /** Further arguments of the command. */
  readonly arguments: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * Runs the command with buildah. Chroot isolation needs root, but neither namespaces nor a container runtime. Throws, with the end
 * of the output, if it fails.
 */
export async function buildDriverImage(options: BuildOptions): Promise<CommandResult> {
  const settings = join(options.storage, 'storage.conf');
  await writeFile(
    settings,
    `[storage]\ndriver = "overlay"\ngraphroot = "${options.storage}/root"\nrunroot = "${options.storage}/run"\n`,
  );
  const env = { CONTAINERS_STORAGE_CONF: settings, BUILDAH_ISOLATION: 'chroot' };
  for (const { archive } of Object.values(baseImages)) {
    const source = `docker-archive:${join(options.bases, archive)}`;
    await run('buildah', ['pull', '--quiet', source], { env, timeoutMs });
  }
  const base = [
    `NODE_IMAGE=${baseImages.node.name}`,
    `RUNTIME_IMAGE=${baseImages.debian.name}`,
  ].flatMap((argument) => ['--build-arg', argument]);
  try {
    const args = [command, '--with', 'buildah', ...base, ...options.arguments];
    const result = await attempt(process.execPath, args, {
      env: { ...env, ...options.env },
      timeoutMs,
    });
    if (result.exitCode === 0) return result;
    throw new Error(`npm run image: ${result.stdout}\n${result.stderr.slice(-4000)}`);
  } finally {
    // A build leaves the containers of its earlier stages mounted, and buildah leaves its storage mounted. Neither could be
    // removed later.
    await run('buildah', ['rm', '--all'], { env });
    await attempt('umount', [join(options.storage, 'root', 'overlay')]);
  }
}
