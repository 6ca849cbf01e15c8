import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { onNode } from '../helpers/on-node.ts';
import { devicesBelow, mountsBelow, removeAll } from '../helpers/scratch-pool.ts';

const demo = join(import.meta.dirname, '..', '..', 'scripts', 'demo.js');

/** Runs the demo in its own directory, and sends the signal of `stopAt` once its text is printed. */
async function runDemo(t: ExecutionContext, stopAt?: { text: string; signal: NodeJS.Signals }) {
  const directory = await mkdtemp('/var/tmp/loopcsi-demo-test-');
  t.teardown(() => removeAll(directory));
  const child = spawn(process.execPath, [demo], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LOOPCSI_DEMO_DIR: directory },
  });
  let shown = '';
  let isStopped = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      shown += text;
      if (stopAt === undefined || isStopped || !shown.includes(stopAt.text)) return;
      isStopped = true;
      child.kill(stopAt.signal);
    });
  }
  await once(child, 'close');
  return { exitCode: child.exitCode, shown, directory };
}

async function leftBelow(directory: string): Promise<readonly string[]> {
  const devices = (await devicesBelow(directory)).map(({ device }) => device);
  return [...(await mountsBelow(directory)), ...devices, ...(await readdir(directory))];
}

onNode('the demo succeeds and leaves nothing behind', async (t) => {
  const { exitCode, shown, directory } = await runDemo(t);
  t.is(exitCode, 0, shown);
  for (const line of [
    /ENOSPC after \d+/,
    /the writer never stopped/,
    /4 volumes mounted, 0 with problems/,
    /✓ nothing is left/,
  ]) {
    t.regex(shown, line);
  }
  t.notRegex(shown, /✗/);
  t.deepEqual(await leftBelow(directory), []);
});

for (const [text, signal] of [
  ["✓ mount 'database'", 'SIGINT'],
  ['✓ kill the driver', 'SIGTERM'],
] as const) {
  onNode(`stopped by ${signal} after '${text}', the demo leaves nothing behind`, async (t) => {
    const { exitCode, shown, directory } = await runDemo(t, { text, signal });
    t.is(exitCode, 1, shown);
    t.regex(shown, new RegExp(`stopped by ${signal}[\\s\\S]*✓ nothing is left`));
    t.deepEqual(await leftBelow(directory), []);
  });
}
