import { execFileSync } from 'node:child_process';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFiles } from '../../src/host/files/files.ts';
import { fsCall, openFlags, withDescriptor, withOpen } from '../../src/host/kernel/descriptor.ts';
import { gate } from '../../src/host/kernel/gate.ts';
import { driverLane, type Lane, laneWithin } from '../../src/host/lane.ts';

/**
 * A separate process, in which nothing else opens files. Makes calls that use a descriptor hang (opening a FIFO for reading
 * waits in the kernel), and prints how many descriptors are open meanwhile and afterwards, as JSON.
 */
const [directory = ''] = process.argv.slice(2);
const laneOf = (name: string) => laneWithin(driverLane, name);
const files = makeFiles(driverLane);
const warnings: string[] = [];
process.on('warning', (warning) => warnings.push(warning.message));

async function countDescriptors(): Promise<number> {
  return (await readdir('/proc/self/fd')).length;
}

/** Calls that leave a descriptor open, which the hung call uses. */
const kinds: Readonly<Record<string, (lane: Lane, hang: () => Promise<void>) => Promise<unknown>>> =
  {
    file: (lane, hang) => withOpen(lane, join(directory, 'file'), openFlags.create, hang),
    path: (lane, hang) => withDescriptor(lane, directory, openFlags.directoryPath, hang),
    directory: (lane, hang) => withDescriptor(lane, directory, openFlags.directory, hang),
    lock: async (lane, hang) => {
      const lock = await makeFiles(lane).lock(join(directory, 'lock'));
      try {
        await hang();
      } finally {
        await lock.release();
      }
    },
    opened: async (lane, hang) => {
      const opened = await makeFiles(lane).openDirectory(directory);
      try {
        await hang();
      } finally {
        await opened.close();
      }
    },
  };

async function main(): Promise<void> {
  const fifos = Object.keys(kinds).map((kind) => join(directory, `fifo-${kind}`));
  execFileSync('mkfifo', fifos);
  await (await open('/dev/null')).close();
  const before = await countDescriptors();
  const hung = Object.entries(kinds).map(([kind, work]) =>
    work(laneOf(kind), () =>
      fsCall(
        laneOf(kind),
        'hang',
        kind,
        async () => {
          await (await open(join(directory, `fifo-${kind}`), 'r')).close();
        },
        { timeoutMs: 200 },
      ),
    ),
  );
  const ends = await Promise.allSettled(hung);
  const meanwhile = (await countDescriptors()) - before;
  for (const fifo of fifos) await (await open(fifo, 'w')).close();
  while (gate.stuckCalls().length > 0) await new Promise(setImmediate);
  // A deferred close runs right after the hung call has returned.
  for (const kind of Object.keys(kinds)) {
    await gate.run(laneOf(kind), 'next', () => Promise.resolve());
  }
  const again = await files.lock(join(directory, 'lock')).then(
    async (lock) => {
      await lock.release();
      return true;
    },
    () => false,
  );
  const afterwards = (await countDescriptors()) - before;
  (globalThis as { gc?: () => void }).gc?.();
  await new Promise((resolve) => setTimeout(resolve, 50));
  const refused = ends.filter((end) => end.status === 'rejected').length;
  process.stdout.write(JSON.stringify({ refused, meanwhile, afterwards, again, warnings }));
}

await main();
