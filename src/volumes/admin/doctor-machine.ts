/** Checks of the machine: kernel, capabilities, devices, filesystems, programs. They do not need a running driver. */
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import {
  type Diagnostics,
  type Files,
  fsTypes,
  type Host,
  type ProgramVersion,
} from '../../host/host.ts';
import { isOlder } from '../../host/programs/versions.ts';
import { type Finding, fail, ok, warn } from './doctor.ts';

/** The first version with mount_setattr(2), which sets the attributes of a bind mount before it becomes visible. */
const minKernel = [5, 12] as const;

/** Directories in which the driver mounts volumes for others. */
export interface MountDirectories {
  readonly kubeletDir?: string | undefined;
  readonly mountDir?: string | undefined;
}

/** Whether I/O limits are needed here. */
export interface LimitsUse {
  /** `--pods-cgroup`, if it is set. */
  readonly podsCgroup?: string | undefined;
  /** Number of volumes with limits. */
  readonly limitedVolumes?: number;
}

/** Checks the machine on which this process runs. Changes nothing. */
export async function checkMachine(
  host: Host,
  directories: MountDirectories = {},
  limits: LimitsUse = {},
): Promise<readonly Finding[]> {
  return [
    kernelFinding(host.facts.kernelRelease),
    ...rightsFindings(host),
    await loopControlFinding(host.files),
    ...(await filesystemFindings(host)),
    await programsFinding(host),
    ...(await versionFindings(host.diagnostics)),
    ...(await loopFindings(host.diagnostics)),
    ...(await propagationFindings(host.diagnostics, directories)),
    await limitsFinding(host, limits),
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

async function versionFindings(diagnostics: Diagnostics): Promise<readonly Finding[]> {
  try {
    return (await diagnostics.programVersions()).map(versionFinding);
  } catch (error) {
    return [warn('program-versions', messageOf(error), 'run the program manually')];
  }
}

function versionFinding({ name, program, version, ...known }: ProgramVersion): Finding {
  const finding = `program:${name}`;
  const { minVersion, testedVersion } = known;
  if (version === undefined) {
    return warn(
      finding,
      `'${program} -V' prints no version`,
      `check which ${program} is installed`,
    );
  }
  if (minVersion !== undefined && isOlder(version, minVersion)) {
    const problem = `version ${version} lacks options that the driver uses`;
    return fail(finding, problem, `upgrade ${name} to ${minVersion} or later`);
  }
  if (isOlder(version, testedVersion)) {
    return warn(
      finding,
      `version ${version} is older than ${testedVersion}, the oldest version that was tested`,
      `upgrade ${name}, or test volumes of this filesystem before you use them`,
    );
  }
  return ok(finding, `version ${version}`);
}

/** Without limits in use, a node that cannot set any is in order. */
async function limitsFinding(
  host: Host,
  { podsCgroup, limitedVolumes = 0 }: LimitsUse,
): Promise<Finding> {
  const name = 'io-limits';
  const cgroup = await host.deviceLimits.findCgroup();
  if ('path' in cgroup) return ok(name, `volumes are limited in ${cgroup.path}/io.max`);
  const { problem, remedy } = cgroup;
  if (limitedVolumes > 0) {
    const volumes = limitedVolumes === 1 ? 'a volume has' : `${limitedVolumes} volumes have`;
    return fail(name, `${volumes} I/O limits, which cannot be set: ${problem}`, remedy);
  }
  if (podsCgroup !== undefined) return warn(name, problem, remedy);
  return ok(name, `volumes cannot have I/O limits: ${problem}; ${remedy}`);
}

/** Percentage of the numbers of loop devices from which on their use is a warning. */
const loopWarnPercent = 90;

async function loopFindings(diagnostics: Diagnostics): Promise<readonly Finding[]> {
  const { numbers, numbersBelow, maxLoop, withoutNode } = await diagnostics.loopLimits();
  const name = 'loop-devices';
  if (maxLoop === undefined && numbers.length === 0) return [];
  const highest = numbers.at(-1) ?? -1;
  const present = `${numbers.length} exist, the highest number is ${highest}, and the kernel allows numbers below ${numbersBelow}`;
  if (withoutNode.length > 0) {
    const list = withoutNode.slice(0, 5).map((number) => `/dev/loop${number}`);
    const more = withoutNode.length > list.length ? ' and others' : '';
    return [
      warn(
        name,
        `${list.join(', ')}${more} do not exist, although the kernel has the devices: an attach to one of them fails`,
        "mount the machine's /dev into the container with the driver; without a container, check devtmpfs and udev",
      ),
    ];
  }
  if ((highest + 1) * 100 >= numbersBelow * loopWarnPercent) {
    return [
      warn(
        name,
        present,
        "lower the loop module's parameter max_part, which takes numbers for partitions, or detach devices that are not used",
      ),
    ];
  }
  const parameter =
    maxLoop === undefined || maxLoop === 0
      ? ''
      : `; max_loop=${maxLoop} limits only devices that are made by opening their node, which the driver does not do`;
  return [ok(name, present + parameter)];
}

async function propagationFindings(
  diagnostics: Diagnostics,
  { kubeletDir, mountDir }: MountDirectories,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const [name, path, remedy] of [
    [
      'kubelet-dir',
      kubeletDir,
      "mount it into the driver's container with mountPropagation: Bidirectional",
    ],
    ['mount-dir', mountDir, "mount it into the driver's container with the propagation rshared"],
  ] as const) {
    if (path !== undefined)
      findings.push(await propagationFinding(diagnostics, { name, path, remedy }));
  }
  return findings;
}

/**
 * In a mount namespace of its own, a driver's mounts reach the kubelet, Docker and containers only through a shared mount. In the
 * namespace of process 1 they are visible to those programs anyway.
 */
async function propagationFinding(
  diagnostics: Diagnostics,
  { name, path, remedy }: { readonly name: string; readonly path: string; readonly remedy: string },
): Promise<Finding> {
  try {
    const { target, isShared, isInFirstNamespace } = await diagnostics.propagationOf(path);
    if (isShared) return ok(name, `mounts below ${path} are visible to other containers (shared)`);
    if (isInFirstNamespace === true) {
      return ok(
        name,
        `${path} is not shared, but the driver is in the mount namespace of process 1`,
      );
    }
    const where = target === path ? path : `${path}, on the mount ${target},`;
    return fail(
      name,
      `${where} is not shared: other mount namespaces do not see volumes there`,
      remedy,
    );
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) {
      return warn(name, `${path} does not exist`, 'create it, or correct the option of the driver');
    }
    throw error;
  }
}
