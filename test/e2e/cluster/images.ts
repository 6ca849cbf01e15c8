/** The images a cluster of the tests needs, as archives to load: nothing is pulled. */
import { copyFile, mkdir, readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { makeBaseImages } from '../../../scripts/images/base.ts';
import { buildDriverImage } from '../../../scripts/images/build.ts';
import { packBusybox } from '../../../scripts/images/busybox.ts';
import { packImage } from '../../../scripts/images/pack.ts';
import { cached, hashInputs, projectRoot, sharedDirectory } from './cache.ts';

export const images = {
  pause: 'localhost/pause:e2e',
  busybox: 'localhost/busybox:e2e',
  driver: 'localhost/loopcsi:e2e',
  sidecar: (program: string): string => `localhost/${program}:e2e`,
} as const;

export const sidecars = [
  'csi-provisioner',
  'csi-resizer',
  'csi-snapshotter',
  'snapshot-controller',
] as const;

const packing = 'scripts/images/pack.ts';
const busybox = 'scripts/images/busybox.ts';

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
    await packBusybox(join(draft, 'busybox.tar'), { names: [images.busybox] });
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

const driverInputs = [
  'Dockerfile',
  '.npmrc',
  'bin',
  'package-lock.json',
  'package.json',
  'scripts',
  'src',
  'tsconfig.json',
];

/** A directory with `driver.tar` and `sbom.cdx.json`, built by the project's Dockerfile. */
export async function driverImage(): Promise<string> {
  const basesKey = await hashInputs([process.version], ['scripts/images/base.ts', packing]);
  const bases = await cached('bases', basesKey, makeBaseImages);
  return cached('driver', await hashInputs([basesKey], driverInputs), async (draft) => {
    const manifest = await readFile(join(projectRoot, 'package.json'), 'utf8');
    await buildDriverImage({
      context: projectRoot,
      name: images.driver,
      bases,
      storage: await sharedDirectory('buildah'),
      output: draft,
      version: /"version": "([^"]+)"/.exec(manifest)?.[1] ?? '',
      revision: 'unknown',
    });
  });
}
