import type { ProgramVersion } from '../host.ts';
import type { Lane } from '../lane.ts';
import { findProgram, type Program, programs } from './programs.ts';
import type { Run } from './run.ts';

/** One program of each package; the programs of a package have the same version. */
const asked: readonly (Pick<ProgramVersion, 'minVersion' | 'testedVersion'> & {
  readonly program: Program;
})[] = [
  // 1.43 has undo files (-z) and metadata_csum_seed.
  { program: 'mkfs.ext4', minVersion: '1.43', testedVersion: '1.47.0' },
  { program: 'mkfs.xfs', minVersion: undefined, testedVersion: '6.1.0' },
  { program: 'mkfs.btrfs', minVersion: undefined, testedVersion: '6.2' },
];

const timeoutMs = 10_000;

/** Asks the installed programs for their versions. A missing program is left out. */
export async function readProgramVersions(
  lane: Lane,
  run: Run,
): Promise<readonly ProgramVersion[]> {
  const found: ProgramVersion[] = [];
  for (const one of asked) {
    if ((await findProgram(one.program)) === undefined) continue;
    const { stdout, stderr } = await run(lane, one.program, ['-V'], { timeoutMs });
    // mkfs.ext4 prints its version on standard error.
    found.push({ ...one, name: programs[one.program], version: versionIn(`${stdout}\n${stderr}`) });
  }
  return found;
}

/** Finds a version such as `6.2` or `1.47.0`. */
export function versionIn(text: string): string | undefined {
  return /\bv?(\d+\.\d+(?:\.\d+)*)/.exec(text)?.[1];
}

/** Whether a version is older than another one; 1.9 is older than 1.10. */
export function isOlder(version: string, than: string): boolean {
  const numbers = (text: string): readonly number[] => text.split('.').map(Number);
  const [a, b] = [numbers(version), numbers(than)];
  for (let i = 0; i < Math.max(a.length, b.length); i += 1) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}
