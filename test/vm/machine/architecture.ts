/** The processors that a machine can have, and the settings that depend on them. All are emulated, including the host's own kind. */
import { arch } from 'node:process';
import { attempt } from '../../../scripts/command.ts';

export const architectures = ['amd64', 'arm64'] as const;
/** Debian's name of the processor. */
export type Architecture = (typeof architectures)[number];

export const hostArchitecture: Architecture = arch === 'arm64' ? 'arm64' : 'amd64';

/** Whether the host cannot run the programs of such a machine. */
export const isForeign = (architecture: Architecture): boolean => architecture !== hostArchitecture;

/** The name that Node and npm's packages use. */
export const nodeArchitecture = { amd64: 'x64', arm64: 'arm64' } as const;

/** How QEMU emulates a machine with two serial ports, and the kernel's names of these ports. */
export interface Emulation {
  readonly qemu: string;
  readonly qemuPackage: string;
  /** The board and the processor. The first serial port is the board's. */
  readonly board: readonly string[];
  /** The second serial port, at QEMU's character device `job`. */
  readonly jobPort: readonly string[];
  readonly consoleDevice: string;
  readonly jobDevice: string;
  readonly kernelArguments: readonly string[];
}

export const emulations: Readonly<Record<Architecture, Emulation>> = {
  amd64: {
    qemu: 'qemu-system-x86_64',
    qemuPackage: 'qemu-system-x86',
    board: ['-machine', 'q35', '-cpu', 'max'],
    jobPort: ['-serial', 'chardev:job'],
    consoleDevice: 'ttyS0',
    jobDevice: 'ttyS1',
    // On a busy host the emulated timer ticks too late for the kernel's check of it, which then panics.
    kernelArguments: ['no_timer_check'],
  },
  arm64: {
    qemu: 'qemu-system-aarch64',
    qemuPackage: 'qemu-system-arm',
    // The processor `max` has pointer authentication, which is slow under emulation.
    board: ['-machine', 'virt', '-cpu', 'cortex-a57'],
    // The board has only one serial port.
    jobPort: ['-device', 'pci-serial,chardev=job'],
    consoleDevice: 'ttyAMA0',
    jobDevice: 'ttyS0',
    kernelArguments: [],
  },
};

/** Throws if programs for another processor are missing: `scripts/bootstrap vm` only installs programs for the host's own kind. */
export async function requirePrograms(architecture: Architecture): Promise<void> {
  if (!isForeign(architecture)) return;
  const { qemu, qemuPackage } = emulations[architecture];
  const needed = [
    { program: qemu, debianPackage: qemuPackage },
    { program: 'depmod', debianPackage: 'kmod' },
  ];
  const missing = [];
  for (const { program, debianPackage } of needed) {
    const { exitCode } = await attempt('sh', ['-c', `command -v ${program}`]);
    if (exitCode !== 0) missing.push(debianPackage);
  }
  if (missing.length === 0) return;
  const install = `apt-get install --no-install-recommends ${missing.join(' ')}`;
  throw new Error(`a machine for ${architecture} needs programs that are missing: ${install}`);
}
