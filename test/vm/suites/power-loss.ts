import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { GiB } from '../../../src/units.ts';
import { makeRandom, seedOf } from '../../crash/random.ts';
import { workingLine } from '../power-loss/working-line.ts';
import type { Suite, SuiteContext } from '../suite.ts';

const filesystems = ['ext4', 'xfs', 'btrfs'] as const;
const cutsEach = 5;
/** The time since the beginning of the load. A call takes a second under emulation. */
const longestWorkMs = 12_000;

export const suite: Suite = {
  name: 'power-loss',
  about: 'the whole machine loses power at random times during a load, and boots again',
  minutes: 60,
  disks: [
    ...filesystems.map((name) => ({ name, bytes: 12n * GiB, cache: 'directsync' as const })),
    { name: 'journal', bytes: GiB / 4n, cache: 'directsync' },
  ],
  drive: async (context) => {
    const seed = seedOf(process.env['LOOPCSI_CRASH_SEED']);
    context.report.line(`# seed ${seed}`);
    const random = makeRandom(seed);
    for (const filesystem of filesystems) {
      for (let cut = 0; cut < cutsEach; cut += 1) {
        const workMs = random.below(longestWorkMs);
        await cutDuringWork(context, { filesystem, seed: seed + cut, workMs });
      }
      const boot = await context.boot({ program: 'power-loss', args: [filesystem, '0', 'rest'] });
      const end = await boot.ended;
      if (end.kind !== 'job-ended') throw new Error(`the machine did not power off: ${end.kind}`);
    }
  },
};

async function cutDuringWork(
  context: SuiteContext,
  { filesystem, seed, workMs }: { filesystem: string; seed: number; workMs: number },
): Promise<void> {
  const args = [filesystem, String(seed), 'work'];
  const working = new AbortController();
  const boot = await context.boot(
    { program: 'power-loss', args },
    {
      onLine: (line) => {
        if (line === workingLine) working.abort();
        else context.report.line(line);
      },
    },
  );
  const early = await Promise.race([
    once(working.signal, 'abort').then(() => undefined),
    boot.ended,
  ]);
  if (early !== undefined) throw new Error(`the machine ended before its work: ${early.kind}`);
  await delay(workMs);
  await boot.cutPower();
  context.report.line(`# power cut ${workMs} ms after the work had begun`);
}
