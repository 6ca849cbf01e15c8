import { execFileSync } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StuckError } from '../../src/host/errors.ts';
import { readKernelText } from '../../src/host/kernel/calls.ts';
import { gate, ownedBy } from '../../src/host/kernel/gate.ts';

/**
 * A separate process, because the size of libuv's thread pool is fixed when a process starts. Makes the given number of calls
 * hang (opening a FIFO for reading waits in the kernel for a writer, and no signal of ours ends it), and prints what other
 * calls did meanwhile, as JSON.
 */
const [directory = '', hung = '4'] = process.argv.slice(2);

async function main(): Promise<void> {
  const fifos = Array.from({ length: Number(hung) }, (_, index) =>
    join(directory, `fifo-${index}`),
  );
  execFileSync('mkfifo', fifos);
  let closedLate = 0;
  const calls = fifos.map((fifo, index) =>
    ownedBy(`volume ${index}`, () =>
      gate.run('open', () => open(fifo, 'r'), {
        timeoutMs: 100,
        late: (handle) => {
          closedLate += 1;
          void handle.close();
        },
      }),
    ),
  );
  // Awaited from the start: on a busy machine the calls can reach their timeout during the steps below.
  const settled = Promise.allSettled(calls);
  const startedAtMs = performance.now();
  await readFile('/proc/self/status', 'utf8');
  const files = performance.now() - startedAtMs;
  await ownedBy('another volume', () => readKernelText('/proc/self/mountinfo'));
  const kernel = performance.now() - startedAtMs - files;
  const outcomes = await settled;
  const stuck = outcomes.filter(
    (one) => one.status === 'rejected' && one.reason instanceof StuckError,
  ).length;
  const stuckOwners = gate.stuckOwners().length;
  const refused = await ownedBy('volume 0', () => gate.run('next', () => Promise.resolve())).then(
    () => false,
    (error: unknown) => error instanceof StuckError,
  );
  // A writer ends the wait of every reader.
  const writers = await Promise.all(fifos.map((fifo) => open(fifo, 'w')));
  await Promise.all(writers.map((writer) => writer.close()));
  while (gate.stuckOwners().length > 0) await new Promise(setImmediate);
  await ownedBy('volume 0', () => gate.run('next', () => Promise.resolve()));
  process.stdout.write(JSON.stringify({ files, kernel, stuck, stuckOwners, refused, closedLate }));
}

await main();
