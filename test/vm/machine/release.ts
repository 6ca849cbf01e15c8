/** The releases of Debian whose machines can be made, and the packages that are installed in each. */
import { type Architecture, isForeign } from './architecture.ts';

export const releases = ['bookworm', 'trixie', 'sid'] as const;
export type Release = (typeof releases)[number];

/** The release and the processor of a machine. */
export interface MachineKind {
  readonly release: Release;
  readonly architecture: Architecture;
}

/** For example `bookworm`, or `bookworm-arm64` if the processor is not the host's. */
export const machineName = ({ release, architecture }: MachineKind): string =>
  isForeign(architecture) ? `${release}-${architecture}` : release;

/** Linux without the drivers of real hardware: 27 MB instead of 70, with all parts that a volume uses. */
export const kernelPackageOf = (architecture: Architecture): string =>
  `linux-image-cloud-${architecture}`;

/** Packages in addition to Debian's minimal base. The payload contains Node, the one that runs the tests on the host. */
const packages = [
  // The programs of the driver, and the programs of its tests.
  'btrfs-progs',
  'e2fsprogs',
  'fuse-overlayfs',
  'fuse3',
  'kmod',
  'libstdc++6',
  'mount',
  'procps',
  'strace',
  'util-linux',
  'xfsprogs',
  // Programs of a host that use disks.
  'cryptsetup-bin',
  'dmsetup',
  'lvm2',
  'mdadm',
  'quota',
  'udev',
  // Security modules, network filesystems, load.
  'apparmor',
  'fio',
  'iproute2',
  'nfs-common',
  'nfs-kernel-server',
] as const;

/**
 * In sid of 2026-11 the package of the policy cannot be configured before other packages, and no package is configured in a machine
 * whose processor is not the host's.
 */
export const hasSelinux = ({ release, architecture }: MachineKind): boolean =>
  release !== 'sid' && !isForeign(architecture);

export function packagesOf(kind: MachineKind): readonly string[] {
  return [
    ...packages,
    ...(hasSelinux(kind) ? ['selinux-policy-default', 'selinux-utils'] : []),
    // Otherwise the initial ram disk would have the host's programs.
    ...(isForeign(kind.architecture) ? ['busybox-static'] : []),
  ];
}
