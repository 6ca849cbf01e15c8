/** The processors that a machine can have, and what depends on them. All are emulated, also the kind that the host has. */
import { arch } from 'node:process';
import { attempt } from '../../../scripts/command.ts';
import type { Release } from './release.ts';

export const architectures = ['amd64', 'arm64'] as const;
/** As Debian names it. */
export type Architecture = (typeof architectures)[number];

/** What a machine is made of. */
export interface MachineKind {
  readonly release: Release;
  readonly architecture: Architecture;
}

export const hostArchitecture: Architecture = arch === 'arm64' ? 'arm64' : 'amd64';

/** Programs of such a machine do not run on the host. */
export const isForeign = (architecture: Architecture): boolean => architecture !== hostArchitecture;

/** `bookworm`, or `bookworm-arm64` where the processor is not the host's. */
export const machineName = ({ release, architecture }: MachineKind): string =>
  isForeign(architecture) ? `${release}-${architecture}` : release;

/** As Node and npm's packages name it. */
export const nodeArchitecture = { amd64: 'x64', arm64: 'arm64' } as const;

/** How QEMU emulates it, with two serial ports, and how the machine's kernel calls these. */
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
    // Its `max` signs pointers, which costs much time under emulation.
    board: ['-machine', 'virt', '-cpu', 'cortex-a57'],
    // The board has no second one.
    jobPort: ['-device', 'pci-serial,chardev=job'],
    consoleDevice: 'ttyAMA0',
    jobDevice: 'ttyS0',
    kernelArguments: [],
  },
};

/** `scripts/bootstrap vm` installs what machines of the host's own kind need. */
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
