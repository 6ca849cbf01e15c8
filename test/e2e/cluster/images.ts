/** The images a cluster of the tests needs, as archives to load: nothing is pulled. */
import { copyFile, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { run } from '../../../scripts/command.ts';
import { makeBaseImages } from '../../../scripts/images/base.ts';
import { buildDriverImage } from '../../../scripts/images/build.ts';
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

/** Archives of pause, busybox and the sidecars; `programs` is `clusterPrograms()`. */
export async function clusterImages(programs: string): Promise<readonly string[]> {
  const key = await hashInputs([basename(programs)], [packing, 'test/e2e/cluster/images.ts']);
  const names = ['pause', 'busybox', ...sidecars];
  const directory = await cached('images', key, async (draft) => {
    for (const program of ['pause', ...sidecars]) {
      await packProgram(join(programs, program), join(draft, `${program}.tar`));
    }
    await packBusybox(draft);
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

async function packBusybox(directory: string): Promise<void> {
  const root = join(directory, 'busybox.root');
  for (const path of ['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp', 'var/tmp']) {
    await mkdir(join(root, path), { recursive: true });
  }
  await run('chmod', ['1777', join(root, 'tmp'), join(root, 'var/tmp')]);
  await copyFile('/bin/busybox', join(root, 'bin/busybox'));
  for (const applet of (await run('/bin/busybox', ['--list'])).split('\n')) {
    if (applet !== '' && applet !== 'busybox') await symlink('busybox', join(root, 'bin', applet));
  }
  await writeFile(
    join(root, 'etc/passwd'),
    'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:\n',
  );
  await writeFile(join(root, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
  await packImage(root, join(directory, 'busybox.tar'), {
    names: [images.busybox],
    command: ['sh'],
  });
  await rm(root, { recursive: true });
}

const driverInputs = [
  'Dockerfile',
  '.npmrc',
  'bin',
  'package-lock.json',
  'package.json',
  'scripts/images',
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
