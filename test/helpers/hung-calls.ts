import { execFileSync } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StuckError } from '../../src/host/errors.ts';
import { readKernelText } from '../../src/host/kernel/calls.ts';
import { gate } from '../../src/host/kernel/gate.ts';
import { driverLane, laneWithin } from '../../src/host/lane.ts';

/**
 * A separate process, because the size of libuv's thread pool is fixed when a process starts. Makes the given number of calls
 * hang (opening a FIFO for reading waits in the kernel for a writer, and no signal of ours ends it), and prints what other
 * calls did meanwhile, as JSON.
 */
const [directory = '', hung = '4'] = process.argv.slice(2);

const laneOf = (name: string) => laneWithin(driverLane, name);

async function main(): Promise<void> {
  const fifos = Array.from({ length: Number(hung) }, (_, index) =>
    join(directory, `fifo-${index}`),
  );
  execFileSync('mkfifo', fifos);
  let closedLate = 0;
  const calls = fifos.map((fifo, index) =>
    gate.run(laneOf(`volume ${index}`), 'open', () => open(fifo, 'r'), {
      timeoutMs: 100,
      onLate: (handle) => {
        closedLate += 1;
        void handle.close();
      },
    }),
  );
  // Awaited from the start: on a busy machine the calls can reach their timeout during the steps below.
  const settled = Promise.allSettled(calls);
  const startedAtMs = performance.now();
  await readFile('/proc/self/status', 'utf8');
  const files = performance.now() - startedAtMs;
  await readKernelText(laneOf('another volume'), '/proc/self/mountinfo');
  const kernel = performance.now() - startedAtMs - files;
  const outcomes = await settled;
  const stuck = outcomes.filter(
    (one) => one.status === 'rejected' && one.reason instanceof StuckError,
  ).length;
  const stuckLanes = gate.stuckCalls().length;
  const next = () => gate.run(laneOf('volume 0'), 'next', () => Promise.resolve());
  const refused = await next().then(
    () => false,
    (error: unknown) => error instanceof StuckError,
  );
  // A writer ends the wait of every reader.
  const writers = await Promise.all(fifos.map((fifo) => open(fifo, 'w')));
  await Promise.all(writers.map((writer) => writer.close()));
  while (gate.stuckCalls().length > 0) await new Promise(setImmediate);
  await next();
  process.stdout.write(JSON.stringify({ files, kernel, stuck, stuckLanes, refused, closedLate }));
}

await main();
