import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import type { NodeFacts } from '../host.ts';

/** linux/capability.h */
const capSysResource = 24n;

/** What this process may do and which kernel it runs on; read once, since neither changes while it runs. */
export function readFacts(): NodeFacts {
  const status = readFileSync('/proc/self/status', 'utf8');
  return { canGrowExt4Online: hasCapability(status, capSysResource), kernelRelease: release() };
}

/** Whether the effective capabilities in the text of /proc/PID/status hold that number. */
export function hasCapability(status: string, capability: bigint): boolean {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return mask !== undefined && ((BigInt(`0x${mask}`) >> capability) & 1n) === 1n;
}
