/** The root directory of a new Debian 12 without Node, as a user gets it: kept in the project's cache, and never written to. */
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
 * Returns the directory: the lower layer of an overlay, for example of `makeMachine` in test/docker/machine.ts. Making it takes half
 * a minute if it is not in the cache. Needs root and a Debian mirror.
 */
export async function debianRoot(): Promise<string> {
  // Without it debootstrap uses its default mirror.
  const mirror = process.env['DEBIAN_MIRROR'];
  const key = await hashInputs([...packages, mirror ?? ''], ['test/helpers/debian-root.ts']);
  const entry = await cached('debian-root', key, async (draft) => {
    const root = join(draft, 'root');
    await runContained(
      [
        ...['debootstrap', '--variant=minbase', `--include=${packages.join(',')}`],
        ...['bookworm', root, ...(mirror === undefined ? [] : [mirror])],
      ],
      { signal: AbortSignal.timeout(600_000) },
    );
    await runContained(['chroot', root, 'apt-get', 'clean'], {
      signal: AbortSignal.timeout(60_000),
    });
    await writeFile(join(root, unsafeIo), 'force-unsafe-io\n');
  });
  return join(entry, 'root');
}
