/** The images of a test cluster, as archives to load, so that nothing is pulled. */
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { build } from 'esbuild';
import { type CommandResult, run } from '../../../scripts/command.ts';
import { nodeRelease } from '../../../scripts/node-release.ts';
import { readVersion } from '../../../src/version.ts';
import { baseImages, makeBaseImages } from '../../images/base.ts';
import { buildDriverImage } from '../../images/build.ts';
import { packBusybox } from '../../images/busybox.ts';
import { packImage } from '../../images/pack.ts';
import { cached, hashInputs, projectRoot, sharedDirectory } from './cache.ts';

export const images = {
  pause: 'localhost/pause:e2e',
  busybox: 'localhost/busybox:e2e',
  /** The image of the pages, as the runtime completes its name. */
  readmeBusybox: 'docker.io/library/busybox:1.37',
  /** The name that `npm run image` gives it by default. */
  driver: `localhost/loopcsi:${await readVersion()}`,
  /** The stand-in for csi-snapshot-metadata, which no package registry has. */
  standIn: 'localhost/csi-snapshot-metadata-stand-in:e2e',
  /** A shell with restic and an object store. */
  backup: 'localhost/backup:e2e',
  sidecar: (program: string): string => `localhost/${program}:e2e`,
} as const;

export const sidecars = [
  'csi-provisioner',
  'csi-resizer',
  'csi-snapshotter',
  'snapshot-controller',
] as const;

const packing = 'test/images/pack.ts';
const busybox = 'test/images/busybox.ts';

/** Archives of pause, busybox and the sidecars; `programs` is `clusterPrograms()`. */
export async function clusterImages(programs: string): Promise<readonly string[]> {
  const key = await hashInputs(
    [basename(programs)],
    [packing, busybox, 'test/e2e/cluster/images.ts'],
  );
  const names = ['pause', 'busybox', ...sidecars];
  const directory = await cached('images', key, async (draft) => {
    for (const program of ['pause', ...sidecars]) {
      await packProgram(join(programs, program), join(draft, `${program}.tar`));
    }
    await packBusybox(join(draft, 'busybox.tar'), {
      names: [images.busybox, images.readmeBusybox],
    });
  });
  return names.map((name) => join(directory, `${name}.tar`));
}

/** One static program in an otherwise empty image. */
async function packProgram(program: string, archive: string): Promise<void> {
  const name = basename(program);
  const root = `${archive}.root`;
  await mkdir(join(root, 'tmp'), { recursive: true });
  await copyFile(program, join(root, name));
  await packImage(root, archive, { names: [images.sidecar(name)], entrypoint: [`/${name}`] });
  await rm(root, { recursive: true });
}

/** The archive of the image for pods that back up; `programs` is `backupPrograms()`. */
export async function backupImage(programs: string): Promise<string> {
  const key = await hashInputs([basename(programs)], [packing, busybox]);
  const directory = await cached('backup-image', key, async (draft) => {
    await packBusybox(join(draft, 'backup.tar'), {
      names: [images.backup],
      programs: ['restic', 'versitygw'].map((program) => join(programs, program)),
    });
  });
  return join(directory, 'backup.tar');
}

/**
 * Replacements for the images of Kubernetes' suite, under the names that it uses: its agnhost program on Debian, also for images
 * of which only the shell is used, and busybox. `suite` is `suitePrograms()`.
 */
export async function suiteImages(suite: string): Promise<readonly string[]> {
  const wanted = (await run(join(suite, 'e2e.test'), ['--list-images'])).split('\n');
  const named = (pattern: RegExp): string[] => wanted.filter((name) => pattern.test(name));
  const bases = await baseArchives();
  const inputs = [packing, 'test/e2e/cluster/images.ts'];
  const key = await hashInputs([basename(suite), basename(bases), ...wanted], inputs);
  const directory = await cached('suite-images', key, async (draft) => {
    const root = join(draft, 'agnhost.root');
    await unpackLayer(join(bases, baseImages.debian.archive), root);
    await copyFile(join(suite, 'agnhost'), join(root, 'agnhost'));
    await packImage(root, join(draft, 'agnhost.tar'), {
      names: named(/e2e-test-images\/(?:agnhost|nginx|glibc-dns-testing):/),
      entrypoint: ['/agnhost'],
      command: ['pause'],
    });
    await rm(root, { recursive: true });
    const names = named(/e2e-test-images\/busybox:/);
    await packBusybox(join(draft, 'busybox.tar'), { names });
  });
  return ['agnhost', 'busybox'].map((name) => join(directory, `${name}.tar`));
}

/** The only layer of an image that `packImage` made. */
async function unpackLayer(archive: string, root: string): Promise<void> {
  await mkdir(root);
  const members = await run('tar', ['--list', '--file', archive]);
  const layer = /^\w+\.tar$/m.exec(members)?.[0] ?? '';
  const script = 'tar --extract --to-stdout --file "$1" "$2" | tar --extract --directory "$3"';
  await run('bash', ['-o', 'pipefail', '-c', script, 'unpack', archive, layer, root]);
}

/** The archive of the stand-in for csi-snapshot-metadata: its compiled program and packages in one file, on the image of Node. */
export async function standInImage(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [join(projectRoot, 'dist/test/e2e/snapshot-metadata/stand-in.js')],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    external: ['@grpc/proto-loader'],
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
    logLevel: 'warning',
  });
  const program = outputFiles[0]?.text ?? '';
  const bases = await baseArchives();
  const key = await hashInputs([basename(bases), program], [packing]);
  const directory = await cached('stand-in', key, async (draft) => {
    const root = join(draft, 'root');
    await unpackLayer(join(bases, baseImages.node.archive), root);
    await writeFile(join(root, 'stand-in.mjs'), program);
    await packImage(root, join(draft, 'stand-in.tar'), {
      names: [images.standIn],
      entrypoint: ['node', '/stand-in.mjs'],
    });
    await rm(root, { recursive: true });
  });
  return join(directory, 'stand-in.tar');
}

async function baseArchives(): Promise<string> {
  const key = await hashInputs([nodeRelease], ['test/images/base.ts', packing]);
  return cached('bases', key, makeBaseImages);
}

const driverInputs = [
  'Dockerfile',
  '.npmrc',
  'bin',
  'contrib/udev',
  'package-lock.json',
  'package.json',
  'scripts',
  'src',
  'tsconfig.json',
];

/** A directory with `driver.tar`, built by `npm run image`. */
export async function driverImage(): Promise<string> {
  const bases = await baseArchives();
  return cached('driver', await hashInputs([basename(bases)], driverInputs), async (draft) => {
    const name = images.driver;
    await runImageCommand(['--tag', name, '--output', join(draft, 'driver.tar')]);
  });
}

/** Runs `npm run image` with the base images and layers of the cache, and further arguments. */
export async function runImageCommand(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  return buildDriverImage({
    bases: await baseArchives(),
    storage: await sharedDirectory('buildah'),
    arguments: args,
    env,
  });
}
