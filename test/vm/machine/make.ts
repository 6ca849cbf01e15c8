/**
 * A Debian machine from packages alone: its kernel, an initial ram disk and the image of its filesystem. It is made once for
 * each release and processor, and kept in the project's cache; a run boots it with a temporary layer above the image.
 */
import { existsSync } from 'node:fs';
import { chmod, copyFile, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { cached, hashInputs, projectRoot } from '../../e2e/cluster/cache.ts';
import { type Architecture, isForeign } from './architecture.ts';
import { runContained } from './contained.ts';
import { kernelParts, loadOrder } from './modules.ts';
import {
  hasSelinux,
  kernelPackageOf,
  type MachineKind,
  machineName,
  packagesOf,
} from './release.ts';

export interface MachineFiles {
  readonly architecture: Architecture;
  readonly kernel: string;
  readonly initrd: string;
  readonly base: string;
}

/** The inputs of the recipe: a change of any of them makes another machine. */
const recipe = [
  'contained.ts',
  'initrd-init.sh',
  'make.ts',
  'modules.ts',
  'release.ts',
  'selinux.cil',
  'unpack-foreign.sh',
].map((name) => `test/vm/machine/${name}`);

/** The image is sparse: writes of tests go to a layer above it. */
const baseBytes = '32G';

/** Modules that the initial ram disk needs to mount an ext4 on a virtio disk. crc32c is requested by name at run time. */
const earlyModules = ['virtio_pci', 'virtio_blk', 'crc32c_generic', 'ext4'];

/** Directories of a new Debian that no test reads. */
const dispensable = [
  'usr/share/doc',
  'usr/share/info',
  'usr/share/locale',
  'usr/share/man',
  'var/cache/apt/archives',
  'var/lib/apt/lists',
];

/** Makes the machine, which takes about two minutes if it is not in the cache. Needs root and a reachable Debian mirror. */
export async function makeMachine(
  kind: MachineKind,
  options: { readonly signal: AbortSignal; readonly say: (line: string) => void },
): Promise<MachineFiles> {
  const { release, architecture } = kind;
  const kernel = kernelPackageOf(architecture);
  const key = await hashInputs([release, architecture, kernel, ...packagesOf(kind)], recipe);
  const directory = await cached(`vm-${machineName(kind)}`, key, async (draft) => {
    options.say(`making a Debian machine (${machineName(kind)}) from its packages`);
    await fill(draft, kind, options.signal);
  });
  return filesOf(directory, architecture);
}

function filesOf(directory: string, architecture: Architecture): MachineFiles {
  return {
    architecture,
    kernel: join(directory, 'vmlinuz'),
    initrd: join(directory, 'initrd.gz'),
    base: join(directory, 'base.img'),
  };
}

async function fill(directory: string, kind: MachineKind, signal: AbortSignal): Promise<void> {
  const work = join(directory, 'work');
  const root = join(work, 'root');
  const files = filesOf(directory, kind.architecture);
  await mkdir(work);
  await installPackages(root, kind, signal);
  const kernel = await unpackKernel(work, root, { architecture: kind.architecture, signal });
  await copyFile(kernel.image, files.kernel);
  await makeInitrd(work, {
    busybox: isForeign(kind.architecture) ? join(root, 'usr/bin/busybox') : '/bin/busybox',
    modules: kernel.modules,
    output: files.initrd,
    signal,
  });
  if (hasSelinux(kind)) await prepareSelinux(root, signal);
  for (const path of dispensable) {
    for (const name of await readdir(join(root, path)).catch(() => [])) {
      await rm(join(root, path, name), { recursive: true, force: true });
    }
  }
  // The payload is mounted here.
  await mkdir(join(root, 'payload'));
  await runContained(['truncate', `--size=${baseBytes}`, files.base], { signal });
  await runContained(['mke2fs', '-q', '-F', '-t', 'ext4', '-d', root, files.base], { signal });
  await rm(work, { recursive: true });
}

async function installPackages(
  root: string,
  kind: MachineKind,
  signal: AbortSignal,
): Promise<void> {
  const { release, architecture } = kind;
  // Without it debootstrap uses its default mirror.
  const mirror = process.env['DEBIAN_MIRROR'];
  const options = [
    '--variant=minbase',
    `--include=${packagesOf(kind).join(',')}`,
    ...(isForeign(architecture) ? ['--foreign', `--arch=${architecture}`] : []),
  ];
  await runContained(
    ['debootstrap', ...options, release, root, ...(mirror === undefined ? [] : [mirror])],
    { signal },
  );
  if (!isForeign(architecture)) return;
  const unpack = join(projectRoot, 'test/vm/machine/unpack-foreign.sh');
  await runContained(['sh', unpack, root], { signal });
}

/** Unpacks the release's kernel into the root. It is not configured, since nothing in the machine installs a kernel. */
async function unpackKernel(
  work: string,
  root: string,
  options: { readonly architecture: Architecture; readonly signal: AbortSignal },
): Promise<{ readonly image: string; readonly modules: string }> {
  const { architecture, signal } = options;
  const kernelPackage = kernelPackageOf(architecture);
  const apt = [
    '-q',
    ...['-o', `Dir=${root}`, '-o', `Dir::State::status=${root}/var/lib/dpkg/status`],
    ...['-o', 'APT::Sandbox::User=root'],
    ...['-o', `APT::Architecture=${architecture}`, '-o', `APT::Architectures=${architecture}`],
  ];
  await runContained(['apt-get', ...apt, 'update'], { signal });
  const described = await runContained(['apt-cache', ...apt, 'depends', kernelPackage], { signal });
  const versioned = /^\s*Depends: (linux-image-\d\S*)$/m.exec(described)?.[1];
  if (versioned === undefined) throw new Error(`${kernelPackage} names no kernel:\n${described}`);
  // Newer releases have the modules in a separate package, whose name has the same suffix.
  const parts = await runContained(['apt-cache', ...apt, 'depends', versioned], { signal });
  const names = [versioned, ...kernelParts(parts, versioned)];
  await runContained(['apt-get', ...apt, 'download', ...names], { signal, cwd: work });
  const unpacked = join(work, 'kernel');
  for (const name of await readdir(work)) {
    if (!name.endsWith('.deb')) continue;
    await runContained(['dpkg-deb', '--extract', join(work, name), unpacked], { signal });
  }
  // Newer releases have it only below /usr; in the machine the other path is a link to it.
  const below = await firstDirectory([
    join(unpacked, 'usr/lib/modules'),
    join(unpacked, 'lib/modules'),
  ]);
  const [version = ''] = await readdir(below);
  const target = join(root, 'usr/lib/modules');
  await mkdir(target, { recursive: true });
  await cp(join(below, version), join(target, version), {
    recursive: true,
    verbatimSymlinks: true,
  });
  const depmod = isForeign(architecture)
    ? ['depmod', '--basedir', root, version]
    : ['chroot', root, 'depmod', version];
  await runContained(depmod, { signal });
  const images = [join(unpacked, `boot/vmlinuz-${version}`), join(below, version, 'vmlinuz')];
  const image = images.find((path) => existsSync(path));
  if (image === undefined) throw new Error(`${names.join(', ')} hold none of ${images.join(', ')}`);
  return { image, modules: join(target, version) };
}

/**
 * Adds the module of these tests to Debian's policy and labels all files, which takes seconds here and minutes in the machine. No
 * policy is in force unless a suite loads it.
 */
async function prepareSelinux(root: string, signal: AbortSignal): Promise<void> {
  await copyFile(join(projectRoot, 'test/vm/machine/selinux.cil'), join(root, 'tmp/loopcsi.cil'));
  const contexts = '/etc/selinux/default/contexts/files/file_contexts';
  const steps = [
    'mount -t proc proc "$1/proc"',
    'chroot "$1" semodule --noreload --install /tmp/loopcsi.cil',
    `exec chroot "$1" setfiles -F -e /proc ${contexts} /`,
  ];
  await runContained(['sh', '-ec', steps.join('\n'), 'sh', root], { signal });
}

async function firstDirectory(paths: readonly string[]): Promise<string> {
  for (const path of paths) {
    const names = await readdir(path).catch(() => []);
    if (names.length > 0) return path;
  }
  throw new Error(`the kernel's package has none of ${paths.join(', ')}`);
}

/** A static busybox, the modules of the first disks, and a script. */
async function makeInitrd(
  work: string,
  options: {
    readonly busybox: string;
    readonly modules: string;
    readonly output: string;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { busybox, modules, output, signal } = options;
  const tree = join(work, 'initrd');
  await mkdir(join(tree, 'bin'), { recursive: true });
  await mkdir(join(tree, 'modules'));
  await copyFile(busybox, join(tree, 'bin/busybox'));
  await copyFile(join(projectRoot, 'test/vm/machine/initrd-init.sh'), join(tree, 'init'));
  await chmod(join(tree, 'init'), 0o755);
  const order = loadOrder(await readFile(join(modules, 'modules.dep'), 'utf8'), earlyModules);
  const names: string[] = [];
  for (const path of order) {
    const copy = join(tree, 'modules', basename(path));
    await copyFile(join(modules, path), copy);
    if (path.endsWith('.xz')) await runContained(['unxz', copy], { signal });
    names.push(basename(path).replace(/\.xz$/, ''));
  }
  await writeFile(join(tree, 'modules/order'), `${names.join('\n')}\n`);
  const pack = `find . | cpio --quiet -o -H newc | gzip -1 >"$1"`;
  await runContained(['sh', '-c', pack, 'sh', output], { signal, cwd: tree });
}
