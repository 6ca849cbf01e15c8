import { join } from 'node:path';
import test from 'ava';
import { execa } from 'execa';

const heap = join(import.meta.dirname, '..', '..', 'src', 'heap.js');

/** Creates much garbage, part of which lives longer, and prints the size of the space for new objects in MiB. */
const program = `
import { getHeapSpaceStatistics } from 'node:v8';
const { limitHeapGrowth } = await import(process.argv[1]);
if (process.argv[2] === 'limited') limitHeapGrowth();
let kept = [];
for (let index = 0; index < 3_000_000; index += 1) {
  kept.push({ index });
  if (kept.length > 100_000) kept = [];
}
const space = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
console.log(space.space_size / 2 ** 20);
`;

async function newSpaceMiB(how: 'limited' | 'as it is'): Promise<number> {
  const args = ['--input-type=module', '--eval', program, heap, how];
  const { stdout, stderr } = await execa(process.execPath, args);
  // V8 tells there of a flag that it does not know.
  if (stderr !== '') throw new Error(stderr);
  return Number(stdout);
}

test('this version of Node knows the limits, and its space for new objects stays small', async (t) => {
  const [limited, asItIs] = [await newSpaceMiB('limited'), await newSpaceMiB('as it is')];
  t.true(limited <= 4, `${limited} MiB`);
  t.true(asItIs > limited, `${asItIs} MiB without the limits`);
});
