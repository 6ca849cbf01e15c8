import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import test from 'ava';
import { devicesBelow, mountsBelow } from '../helpers/scratch-pool.ts';
import { openLab } from './lab.ts';
import { processesNaming } from './processes.ts';

/** A run that is killed after it has made a node and a filesystem on a loop device. */
const run = `
import { mkdir } from 'node:fs/promises';
import { makeNode, openLab } from '${join(import.meta.dirname, 'lab.js')}';
import { makePoolFs } from '${join(import.meta.dirname, '../helpers/scratch-pool.js')}';
const lab = await openLab();
const { directory } = await makeNode(lab, 'a');
await mkdir(directory + '/driver');
await makePoolFs(directory + '/driver', { poolFs: 'ext4', poolFsBytes: 16n << 20n });
console.log(lab.directory);
setInterval(() => undefined, 60_000);
`;

test('the next run removes everything that a killed run left', async (t) => {
  const killed = spawn(process.execPath, ['--input-type=module', '--eval', run], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [directory] = (await once(createInterface({ input: killed.stdout }), 'line')) as [string];
  killed.kill('SIGKILL');
  await once(killed, 'exit');
  t.is((await devicesBelow(directory)).length, 1);

  const lab = await openLab();
  await t.throwsAsync(access(directory), { code: 'ENOENT' });
  t.deepEqual(await devicesBelow(directory), []);
  t.deepEqual(await mountsBelow(directory), []);
  t.deepEqual(await processesNaming(directory), []);
  const spaces = await readdir('/run/netns').catch(() => []);
  t.false(spaces.some((one) => one.startsWith(basename(directory))));
  t.deepEqual(await lab.close(), []);
});
