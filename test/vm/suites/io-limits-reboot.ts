import { once } from 'node:events';
import { GiB } from '../../../src/units.ts';
import { workingLine } from '../power-loss/working-line.ts';
import type { Suite, SuiteContext } from '../suite.ts';

export const suite: Suite = {
  name: 'io-limits-reboot',
  about:
    'the machine loses power while a limited volume is written, and the limit holds when it is staged again',
  minutes: 60,
  disks: [
    { name: 'pool', bytes: 4n * GiB, cache: 'directsync' },
    { name: 'state', bytes: GiB / 4n, cache: 'directsync' },
  ],
  drive: async (context) => {
    await cutWhileLimited(context);
    const boot = await context.boot({ program: 'io-limits-reboot', args: ['again'] });
    const end = await boot.ended;
    if (end.kind !== 'job-ended') throw new Error(`the machine did not power off: ${end.kind}`);
    if (end.exitCode !== 0) context.report.failed('the limit after a reboot', end.console);
  },
};

/** Cuts the power once the volume is in use under its limit. */
async function cutWhileLimited(context: SuiteContext): Promise<void> {
  const working = new AbortController();
  const boot = await context.boot(
    { program: 'io-limits-reboot', args: ['first'] },
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
  await boot.cutPower();
}
