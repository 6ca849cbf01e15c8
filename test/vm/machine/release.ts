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

/** Linux without the drivers of real hardware: 27 MB instead of 70, with all that a volume touches. */
export const kernelPackageOf = (architecture: Architecture): string =>
  `linux-image-cloud-${architecture}`;

/** Besides Debian's minimal base. Node comes with the payload: it is the one that runs the tests on the host. */
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
 * In sid of 2026-11 the policy's package cannot be configured while others are not yet, and nothing is configured in a machine whose
 * processor is not the host's.
 */
export const hasSelinux = ({ release, architecture }: MachineKind): boolean =>
  release !== 'sid' && !isForeign(architecture);

export function packagesOf(kind: MachineKind): readonly string[] {
  return [
    ...packages,
    ...(hasSelinux(kind) ? ['selinux-policy-default', 'selinux-utils'] : []),
    // The initial ram disk has the host's otherwise.
    ...(isForeign(kind.architecture) ? ['busybox-static'] : []),
  ];
}
