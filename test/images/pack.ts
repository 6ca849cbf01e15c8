/** Packs a directory as a docker-archive, which ctr, buildah and docker can load without a registry. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { run } from '../../scripts/command.ts';

export interface ImageOptions {
  /** Full names with registry and tag, as in a pod or a Dockerfile. */
  readonly names: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly user?: string;
  readonly env?: readonly string[];
}

const goArchitecture: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };
const epoch = '1970-01-01T00:00:00Z';

/** Packs `rootfs` as the only layer of an image. Fixed order and times make the archive reproducible. */
export async function packImage(
  rootfs: string,
  archive: string,
  options: ImageOptions,
): Promise<void> {
  const work = await mkdtemp(join(dirname(archive), '.pack-'));
  try {
    const fixed = ['--sort=name', '--mtime=@0', '--numeric-owner', '--one-file-system'];
    const draft = join(work, 'layer');
    await run('tar', ['--create', '--file', draft, '--directory', rootfs, ...fixed, '.']);
    const layer = await fileDigest(draft);
    await rename(draft, join(work, `${layer}.tar`));
    const config = JSON.stringify(imageConfig(layer, options));
    const id = createHash('sha256').update(config).digest('hex');
    await writeFile(join(work, `${id}.json`), config);
    const manifest = [{ Config: `${id}.json`, RepoTags: options.names, Layers: [`${layer}.tar`] }];
    await writeFile(join(work, 'manifest.json'), JSON.stringify(manifest));
    const members = ['manifest.json', `${id}.json`, `${layer}.tar`];
    await run('tar', ['--create', '--file', archive, '--directory', work, ...members]);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function imageConfig(layer: string, options: ImageOptions): unknown {
  const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  return {
    architecture: goArchitecture[process.arch] ?? process.arch,
    os: 'linux',
    created: epoch,
    config: {
      Env: [path, ...(options.env ?? [])],
      Entrypoint: options.entrypoint ?? null,
      Cmd: options.command ?? null,
      User: options.user ?? '',
    },
    rootfs: { type: 'layers', diff_ids: [`sha256:${layer}`] },
    history: [{ created: epoch, created_by: 'loopcsi test images' }],
  };
}

async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
