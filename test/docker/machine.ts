/**
 * A machine that systemd boots, made of namespaces above this machine's root or that of a new Debian. Its writes go to a disk of the
 * lab. It shares the kernel, loop devices and network with this machine.
 */

import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { attempt, type CommandResult, eventually, FinalError, run } from '../../scripts/command.ts';
import { makePaths } from '../../src/host/files/paths.ts';
import { driverLane } from '../../src/host/lane.ts';
import {
  attachPoolFs,
  devicesBelow,
  devicesOn,
  processesMounting,
} from '../helpers/scratch-pool.ts';
import type { Lab } from './lab.ts';
import { type Service, startService } from './processes.ts';

const paths = makePaths(driverLane);

const systemd = '/lib/systemd/systemd';
const project = join(import.meta.dirname, '..', '..', '..');

export interface Machine {
  boot(): Promise<void>;
  /** Powers the machine off in order, and detaches its loop devices, as the end of a kernel would. */
  halt(): Promise<void>;
  run(file: string, ...args: readonly string[]): Promise<string>;
  attempt(file: string, ...args: readonly string[]): Promise<CommandResult>;
  /** The path by which this process sees a path of the booted machine. */
  seen(path: string): string;
  /** Loop devices whose images are on its disk. */
  devices(): Promise<readonly string[]>;
}

interface MachineOptions {
  /** The machine's programs and files, which it cannot change. Default: those of this machine. */
  readonly root?: string;
  /** Whether the machine sees this checkout, at the same path. Default: yes. */
  readonly withProject?: boolean;
  /** The time limit of a command that runs on the machine. Default: two minutes. */
  readonly commandTimeoutMs?: number;
}

export async function makeMachine(lab: Lab, options: MachineOptions = {}): Promise<Machine> {
  const directory = join(lab.directory, 'machine');
  const timeout =
    options.commandTimeoutMs === undefined ? {} : { timeoutMs: options.commandTimeoutMs };
  const disk = join(directory, 'disk');
  await mkdir(disk, { recursive: true });
  // Only the machine mounts it. If this process did, every mount namespace that is made meanwhile would have a copy of the mount.
  const device = await attachPoolFs(directory, 'ext4', 4n << 30n);
  const log = join(directory, 'console.log');
  let service: Service | undefined;
  let init = 0;
  const enter = (): readonly string[] => [
    `--target=${init}`,
    ...['--mount', '--pid', '--cgroup', '--uts', '--ipc', '--root', '--wd'],
  ];
  const detachAll = async (): Promise<void> => {
    for (const one of await devicesOn(device)) await run('losetup', ['--detach', one]);
  };
  const machine: Machine = {
    boot: async () => {
      const begun = await startService(
        [
          'sh',
          '-c',
          `${await joinCgroup(lab.cgroup)}exec ${namespaces} sh -euc "$0"`,
          power(device, disk, options),
        ],
        log,
      );
      service = begun;
      await eventually(
        'the machine to be up',
        async () => {
          if (begun.hasEnded())
            throw new FinalError(`the machine ended:\n${await readFile(log, 'utf8')}`);
          init = await initOf(begun.pid);
          const { stdout } = await machine.attempt('systemctl', 'is-system-running', '--wait');
          // A machine is `degraded` if one of Debian's services cannot start here. Tests check the services that matter.
          if (stdout === 'running' || stdout === 'degraded') return true;
          throw new Error(stdout);
        },
        { everyMs: 50 },
      );
    },
    halt: async () => {
      await machine.run('systemctl', 'poweroff');
      await eventually('the machine to be off', async () => service?.hasEnded() || undefined, {
        everyMs: 50,
      });
      await detachAll();
    },
    run: (file, ...args) => run('nsenter', [...enter(), file, ...args], timeout),
    attempt: (file, ...args) => attempt('nsenter', [...enter(), file, ...args], timeout),
    seen: (path) => join(`/proc/${init}/root`, path),
    devices: () => devicesOn(device),
  };
  lab.atEnd(async () => {
    await service?.end('SIGKILL');
    await detachAll();
    await run('losetup', ['--detach', device]);
    // The kernel detaches it once the machine's mount namespace has ended, in the background.
    await eventually('the disk of the machine to be detached', async () => {
      if ((await devicesBelow(directory)).length === 0) return true;
      throw new Error(`processes that mount it: ${(await processesMounting(device)).join(', ')}`);
    });
  });
  return machine;
}

const namespaces =
  'unshare --mount --pid --cgroup --uts --ipc --fork --kill-child --propagation private';

/** The machine's own part of systemd's cgroup hierarchy, or of both hierarchies if version 1 is mounted. */
async function joinCgroup(name: string): Promise<string> {
  const lines: string[] = [];
  for (const root of ['', 'systemd', 'unified'].map((one) => join('/sys/fs/cgroup', one))) {
    if (!(await paths.exists(join(root, 'cgroup.procs')))) continue;
    await mkdir(join(root, name), { recursive: true });
    lines.push(`echo $$ >${join(root, name, 'cgroup.procs')}; `);
  }
  return lines.join('');
}

/** The script that becomes systemd. */
function power(device: string, disk: string, options: MachineOptions): string {
  const { root: lower = '/', withProject = true } = options;
  const root = `${disk}/root`;
  // These services would change the shared kernel, or need a terminal.
  const masked = [
    'systemd-udevd.service',
    'systemd-udevd-control.socket',
    'systemd-udevd-kernel.socket',
    'systemd-sysctl.service',
    'systemd-modules-load.service',
    'systemd-tmpfiles-setup-dev.service',
    'console-getty.service',
  ];
  return `
mount ${device} ${disk}
mkdir -p ${disk}/upper ${disk}/work ${root} ${disk}/loopcsi ${disk}/docker ${disk}/units
mount -t overlay -o lowerdir=${lower},upperdir=${disk}/upper,workdir=${disk}/work overlay ${root}
mount -t proc proc ${root}/proc
mount --bind ${root}/proc/sys ${root}/proc/sys
mount -o remount,bind,ro ${root}/proc/sys
mount -t sysfs sysfs ${root}/sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 ${root}/sys/fs/cgroup
else
  mount -t tmpfs tmpfs ${root}/sys/fs/cgroup
  mkdir ${root}/sys/fs/cgroup/systemd ${root}/sys/fs/cgroup/unified
  mount -t cgroup -o none,name=systemd cgroup ${root}/sys/fs/cgroup/systemd
  mount -t cgroup2 cgroup2 ${root}/sys/fs/cgroup/unified
fi
mount -t devtmpfs devtmpfs ${root}/dev
mount -t tmpfs tmpfs ${root}/run
mount -t tmpfs tmpfs ${root}/tmp
mkdir -p ${root}/var/lib/loopcsi ${root}/var/lib/docker ${root}/etc/systemd/system-generators
# Neither volumes nor layers of images can lie on an overlay.
mount --bind ${disk}/loopcsi ${root}/var/lib/loopcsi
mount --bind ${disk}/docker ${root}/var/lib/docker
${withProject ? `mkdir -p ${root}${project}; mount --bind ${project} ${root}${project}` : ''}
${lower === '/' ? '' : shareNetwork(root)}
# Services of this machine are not the other's.
mount --bind ${disk}/units ${root}/etc/systemd/system
for unit in ${masked.join(' ')}; do ln -sf /dev/null ${root}/etc/systemd/system/$unit; done
ln -sf /dev/null ${root}/etc/systemd/system-generators/systemd-sysv-generator
echo >${root}/etc/fstab
# With none it would be its first boot, which enables every service that is installed.
echo 6c6f6f706373692d6d616368696e6531 >${root}/etc/machine-id
mkdir -p ${root}/old
cd ${root}
pivot_root . old
umount --lazy /old
exec env -i container=lab PATH="$PATH" HOME=/root ${systemd} --system --show-status=no --log-target=journal`;
}

/** A proxy of this machine's network may have its own certificate. */
function shareNetwork(root: string): string {
  const files = ['/etc/resolv.conf', '/etc/hosts', '/etc/ssl/certs/ca-certificates.crt'];
  return files.map((file) => `[ ! -e ${file} ] || cat ${file} >${root}${file}`).join('\n');
}

/** The ID of the machine's first process. */
async function initOf(pid: number): Promise<number> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  const child = Number(children.trim());
  const line = await readFile(`/proc/${child}/cmdline`, 'utf8');
  if (!line.startsWith(systemd)) throw new Error(`systemd has not started yet, ${line} runs`);
  return child;
}
