/** The root directory of a new Debian 12, as a user gets it: kept in the project's cache, and never written to. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached, hashInputs } from '../e2e/cluster/cache.ts';
import { runContained } from '../vm/machine/contained.ts';

/** In addition to the packages with priority `required`. Debian's installer also installs these. */
const packages = [
  'apt-utils',
  'ca-certificates',
  'dbus',
  'dmsetup',
  'e2fsprogs',
  'iproute2',
  'kmod',
  'less',
  'man-db',
  'mount',
  'procps',
  'sudo',
  'systemd',
  'systemd-sysv',
  'udev',
] as const;

/** A test does not lose its machine's power: dpkg may skip its many calls of fsync. */
const unsafeIo = 'etc/dpkg/dpkg.cfg.d/unsafe-io';

/**
 * Returns the directory: the lower layer of an overlay, for example of `makeMachine` in test/docker/machine.ts. It has no Node unless
 * `extraPackages` include it. Making it takes half a minute if it is not in the cache. Needs root and a Debian mirror.
 */
export async function debianRoot(extraPackages: readonly string[] = []): Promise<string> {
  // Without it debootstrap uses its default mirror.
  const mirror = process.env['DEBIAN_MIRROR'];
  const texts = [...packages, mirror ?? '', ...extraPackages];
  const key = await hashInputs(texts, ['test/helpers/debian-root.ts']);
  const isBase = extraPackages.length === 0;
  const entry = await cached(isBase ? 'debian' : 'debian-with', key, (draft) =>
    isBase ? makeBase(join(draft, 'root'), mirror) : extend(join(draft, 'root'), extraPackages),
  );
  return join(entry, 'root');
}

async function makeBase(root: string, mirror: string | undefined): Promise<void> {
  const options = ['--variant=minbase', `--include=${packages.join(',')}`];
  const mirrors = mirror === undefined ? [] : [mirror];
  await contained('debootstrap', ...options, 'bookworm', root, ...mirrors);
  await contained('chroot', root, 'apt-get', 'clean');
  await writeFile(join(root, unsafeIo), 'force-unsafe-io\n');
}

async function extend(root: string, extraPackages: readonly string[]): Promise<void> {
  await contained('cp', '--archive', '--reflink=auto', await debianRoot(), root);
  const install = [
    'mount -t proc proc "$0/proc"',
    // The cache may be older than the current versions of Debian's packages.
    'chroot "$0" apt-get --quiet update',
    'chroot "$0" apt-get --quiet --yes --no-install-recommends install "$@"',
    'chroot "$0" apt-get clean',
  ];
  await contained('sh', '-ec', install.join('\n'), root, ...extraPackages);
}

async function contained(...argv: readonly string[]): Promise<void> {
  await runContained(argv, { signal: AbortSignal.timeout(600_000) });
}
