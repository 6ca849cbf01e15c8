import type { ContractCase } from './contract-case.ts';
import { fileCases } from './files.ts';
import { filesystemCases } from './filesystems.ts';
import { freezeCases } from './freezer.ts';
import { loopCases } from './loops.ts';
import { mountCases } from './mounts.ts';
import { otherSoftwareCases } from './other-software.ts';

/**
 * The behaviour of every Host, as cases that run against the fake and the real one, so that both agree. Each case gets
 * an empty directory and leaves nothing mounted or attached.
 */
export const hostContract: readonly ContractCase[] = [
  ...fileCases,
  ...loopCases,
  ...mountCases,
  ...filesystemCases,
  ...freezeCases,
  ...otherSoftwareCases,
];
