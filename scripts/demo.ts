/**
 * `npm run demo`: the driver at work on a pool in a scratch directory, from its start to the proof that nothing of it is left,
 * also after Ctrl-C or a failure. Started by scripts/bootstrap, as root.
 */
import { Report } from './demo/report.ts';
import { findLeftovers, makeScratch } from './demo/scratch.ts';
import { Demo } from './demo/steps.ts';

async function main(): Promise<number> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (stop.signal.aborted) console.log('\n  … still tidying up; this ends by itself');
      else stop.abort(new Error(`stopped by ${signal}`));
    });
  }
  const report = new Report(stop.signal);
  const scratch = await makeScratch(process.env['LOOPCSI_DEMO_DIR'] ?? '/var/tmp');
  report.say(`loopcsi demo, in ${scratch.directory}`);
  const demo = new Demo(scratch, report, stop.signal);
  let failure: unknown;
  try {
    await demo.tell();
  } catch (error) {
    failure = error;
    report.say(error instanceof Error ? error.message : String(error));
    report.title('Tidying up');
  }
  const left = await demo.cleanUp();
  const stayed = await findLeftovers(scratch.directory);
  report.say(
    stayed.length === 0
      ? `✓ nothing is left: no mount, no loop device, no file in ${scratch.directory}`
      : `✗ still there: ${stayed.join(', ')}`,
  );
  if (failure !== undefined || left.length > 0 || stayed.length > 0) {
    if (left.length > 0) report.say(`the driver had left ${left.join(', ')}`);
    return 1;
  }
  report.end('All done.');
  report.say(
    "Next: 'npm start' serves a pool in /var/lib/loopcsi; bin/loopcsi --help has the commands.",
  );
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
