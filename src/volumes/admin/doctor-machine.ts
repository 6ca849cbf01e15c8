/** Checks of the machine: kernel, capabilities, devices, filesystems, programs. They do not need a running driver. */
import { messageOf } from '../../errors.ts';
import { type Files, fsTypes, type Host } from '../../host/host.ts';
import { type Finding, fail, ok, warn } from './doctor.ts';

/** The first version with mount_setattr(2), which sets the attributes of a bind mount before it becomes visible. */
const minKernel = [5, 12] as const;

/** Checks the machine on which this process runs. Changes nothing. */
export async function checkMachine(host: Host): Promise<readonly Finding[]> {
  return [
    kernelFinding(host.facts.kernelRelease),
    ...rightsFindings(host),
    await loopControlFinding(host.files),
    ...(await filesystemFindings(host)),
    await programsFinding(host),
  ];
}

function kernelFinding(release: string): Finding {
  const [major = 0, minor = 0] = release.split('.').map((part) => Number.parseInt(part, 10));
  const [minMajor, minMinor] = minKernel;
  if (major > minMajor || (major === minMajor && minor >= minMinor)) {
    return ok('kernel', `Linux ${release}`);
  }
  return fail(
    'kernel',
    `Linux ${release} is older than ${minMajor}.${minMinor}`,
    'boot a newer kernel: the driver needs mount_setattr(2)',
  );
}

function rightsFindings(host: Host): readonly Finding[] {
  const mount = host.facts.canMount
    ? ok('rights', 'can mount and attach loop devices (CAP_SYS_ADMIN)')
    : fail(
        'rights',
        'cannot mount (no CAP_SYS_ADMIN)',
        'run the driver as root, and a container with the driver as privileged',
      );
  const grow = host.facts.canGrowExt4Online
    ? ok('ext4-online-growth', 'ext4 can grow while it is mounted (CAP_SYS_RESOURCE)')
    : warn(
        'ext4-online-growth',
        'ext4 cannot grow while it is mounted (no CAP_SYS_RESOURCE); xfs and btrfs can',
        'give the driver CAP_SYS_RESOURCE; without it, an ext4 volume grows at its next mount',
      );
  return [mount, grow];
}

async function loopControlFinding(files: Files): Promise<Finding> {
  const path = '/dev/loop-control';
  try {
    const { kind } = await files.status(path);
    if (kind !== 'character-device') throw new Error('it is not a character device');
    await files.requireReadWrite(path);
    return ok('loop-control', `${path} can be opened`);
  } catch (error) {
    return fail(
      'loop-control',
      `${path} cannot be used: ${messageOf(error)}`,
      "load the module with 'modprobe loop'; for a container, mount the host's /dev into it and run it privileged",
    );
  }
}

async function filesystemFindings(host: Host): Promise<readonly Finding[]> {
  const supported = await host.supportedFilesystems();
  return fsTypes.map((fsType) =>
    supported.has(fsType)
      ? ok(`filesystem:${fsType}`, 'the kernel supports it')
      : warn(
          `filesystem:${fsType}`,
          'the kernel has not loaded its module',
          `run 'modprobe ${fsType}'; without the module, ${fsType} volumes cannot be mounted`,
        ),
  );
}

async function programsFinding(host: Host): Promise<Finding> {
  const missing = await host.missingPrograms();
  if (missing.length === 0) return ok('programs', 'all are installed');
  return fail(
    'programs',
    `missing: ${missing.join(', ')}`,
    "install them; on Debian and Ubuntu 'apt-get install e2fsprogs xfsprogs btrfs-progs'",
  );
}
