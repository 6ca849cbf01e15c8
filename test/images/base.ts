/**
 * Builds base images without a registry: Debian's from its packages, and Node's from that and npm's packages. The Dockerfile gets
 * their `localhost/` names as build arguments.
 */
import { appendFile, copyFile, cp, mkdir, readdir, rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { run } from '../../scripts/command.ts';
import { installNode } from './node.ts';
import { packImage } from './pack.ts';

export const baseImages = {
  debian: { name: 'localhost/debian:bookworm-slim', archive: 'debian.tar' },
  node: { name: 'localhost/node:bookworm-slim', archive: 'node.tar' },
} as const;

/** The CA certificates of this machine. npm needs them behind a proxy with its own CA. */
const certificates = '/etc/ssl/certs/ca-certificates.crt';

/** Directories that the official slim image omits too. */
const omitted = ['doc', 'info', 'locale', 'man'].map((name) => `usr/share/${name}`);

/** Writes `debian.tar` and `node.tar` to `directory`. Needs root, debootstrap and a Debian mirror; about a minute. */
export async function makeBaseImages(directory: string): Promise<void> {
  const work = join(directory, '.work');
  const debian = join(work, 'debian');
  await mkdir(work, { recursive: true });
  try {
    await debootstrap(debian);
    await packImage(debian, join(directory, baseImages.debian.archive), {
      names: [baseImages.debian.name],
      command: ['bash'],
    });
    await mkdir(join(work, 'node'));
    await addNode(debian, await installNode(join(work, 'node')));
    await packImage(debian, join(directory, baseImages.node.archive), {
      names: [baseImages.node.name],
      command: ['node'],
      env: [`NODE_EXTRA_CA_CERTS=${certificates}`],
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function debootstrap(root: string): Promise<void> {
  // By default debootstrap uses its built-in mirror.
  const mirror = process.env['DEBIAN_MIRROR'];
  const options = ['--variant=minbase', '--include=ca-certificates'];
  await run(
    'debootstrap',
    [...options, 'bookworm', root, ...(mirror === undefined ? [] : [mirror])],
    { timeoutMs: 600_000 },
  );
  for (const path of ['var/cache/apt/archives', 'var/lib/apt/lists', ...omitted]) {
    for (const name of await readdir(join(root, path))) {
      await rm(join(root, path, name), { recursive: true, force: true });
    }
  }
}

/** Installs Node, this machine's npm and missing libraries, below /usr/local as in the official Node image. */
async function addNode(root: string, node: string): Promise<void> {
  await copyFile(node, join(root, 'usr/local/bin/node'));
  for (const [, library = ''] of (await run('ldd', [node])).matchAll(/=> (\/\S+)/g)) {
    await mkdir(join(root, dirname(library)), { recursive: true });
    await run('cp', ['--dereference', '--no-clobber', library, join(root, library)]);
  }
  const modules = 'usr/local/lib/node_modules';
  const npm = join((await run('npm', ['root', '--global'])).trim(), 'npm');
  await cp(npm, join(root, modules, 'npm'), { recursive: true });
  for (const name of ['npm', 'npx']) {
    await symlink(`../lib/node_modules/npm/bin/${name}-cli.js`, join(root, 'usr/local/bin', name));
  }
  await copyFile(certificates, join(root, certificates));
  await appendFile(join(root, 'etc/passwd'), 'node:x:1000:1000::/home/node:/bin/bash\n');
  await appendFile(join(root, 'etc/group'), 'node:x:1000:\n');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const directory = process.argv[2];
  if (directory === undefined) {
    console.error('usage: node dist/test/images/base.js DIRECTORY');
    process.exit(2);
  }
  await makeBaseImages(directory);
}
