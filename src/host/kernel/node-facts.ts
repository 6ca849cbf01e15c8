import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import type { NodeFacts } from '../host.ts';
import type { Lane } from '../lane.ts';
import { readKernelText } from './calls.ts';

/** linux/capability.h */
const capSysAdmin = 21n;
const capSysResource = 24n;

/** Reads the capabilities of this process and the kernel release. */
export function readFacts(): NodeFacts {
  const status = readFileSync('/proc/self/status', 'utf8');
  return {
    canMount: hasCapability(status, capSysAdmin),
    canGrowExt4Online: hasCapability(status, capSysResource),
    kernelRelease: release(),
  };
}

/**
 * Reads the filesystem types that the running kernel can mount. The result can change: loading a module adds its type.
 */
export async function readSupportedFilesystems(lane: Lane): Promise<ReadonlySet<string>> {
  const text = await readKernelText(lane, '/proc/filesystems');
  return new Set(text.split('\n').map((line) => line.replace(/^nodev/, '').trim()));
}

/** Whether `status`, the text of /proc/PID/status, lists this capability as effective. */
export function hasCapability(status: string, capability: bigint): boolean {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return mask !== undefined && ((BigInt(`0x${mask}`) >> capability) & 1n) === 1n;
}
