import { join } from 'node:path';
import test from 'ava';
import { execa } from 'execa';

const heap = join(import.meta.dirname, '..', '..', 'src', 'heap.js');

/** V8 reports a flag that it does not know on standard error, and goes on. */
async function complaintAbout(program: string): Promise<string> {
  return (await execa(process.execPath, ['--input-type=module', '--eval', program])).stderr;
}

test('this version of Node knows the limit of the growth of the heap', async (t) => {
  const limit = `(await import(${JSON.stringify(heap)})).limitHeapGrowth()`;
  t.is(await complaintAbout(limit), '');
  const unknown = `(await import('node:v8')).setFlagsFromString('--no-such-limit=1')`;
  t.regex(await complaintAbout(unknown), /--no-such-limit/);
});
