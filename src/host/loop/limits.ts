import { existsSync, readdirSync } from 'node:fs';
import { hasErrno } from '../errors.ts';
import type { LoopLimits } from '../host.ts';
import { readKernelText } from '../kernel/calls.ts';
import type { Lane } from '../lane.ts';

/** Bits of a minor number (linux/kdev_t.h, MINORBITS). */
const minorBits = 20;

/** Reads which loop devices exist and how many the kernel allows. */
export async function readLoopLimits(lane: Lane): Promise<LoopLimits> {
  const [maxLoop, maxPart] = await Promise.all([
    readParameter(lane, 'max_loop'),
    readParameter(lane, 'max_part'),
  ]);
  const partBits = maxPart === undefined || maxPart <= 0 ? 0 : Math.ceil(Math.log2(maxPart + 1));
  const numbers = readdirSync('/sys/block')
    .flatMap((name) => /^loop(\d+)$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
  return {
    numbers,
    numbersBelow: 2 ** (minorBits - partBits),
    maxLoop,
    withoutNode: numbers.filter((number) => !existsSync(`/dev/loop${number}`)),
  };
}

async function readParameter(lane: Lane, name: string): Promise<number | undefined> {
  try {
    return Number(await readKernelText(lane, `/sys/module/loop/parameters/${name}`));
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
