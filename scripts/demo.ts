/**
 * `npm run demo` runs the driver on a pool in a scratch directory. At the end, even after Ctrl-C or a failure, it checks that no
 * mount, loop device or file is left. scripts/bootstrap starts it as root.
 */
import { Report } from './demo/report.ts';
import { createScratch, findLeftovers } from './demo/scratch.ts';
import { Demo } from './demo/steps.ts';

async function main(): Promise<number> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (stop.signal.aborted) console.log('\n  … still cleaning up');
      else stop.abort(new Error(`stopped by ${signal}`));
    });
  }
  const report = new Report(stop.signal);
  const scratch = await createScratch(process.env['LOOPCSI_DEMO_DIR'] ?? '/var/tmp');
  report.say(`loopcsi demo, in ${scratch.directory}`);
  const demo = new Demo(scratch, report, stop.signal);
  let failure: unknown;
  try {
    await demo.run();
  } catch (error) {
    failure = error;
    report.say(error instanceof Error ? error.message : String(error));
    report.title('Clean-up');
  }
  const leftByDriver = await demo.cleanUp();
  const leftovers = await findLeftovers(scratch.directory);
  report.say(
    leftovers.length === 0
      ? `✓ nothing is left: no mount, no loop device, no file in ${scratch.directory}`
      : `✗ left behind: ${leftovers.join(', ')}`,
  );
  if (failure !== undefined || leftByDriver.length > 0 || leftovers.length > 0) {
    if (leftByDriver.length > 0) report.say(`the driver left behind: ${leftByDriver.join(', ')}`);
    return 1;
  }
  report.end('Done.');
  report.say(
    "Next: 'npm start' serves a pool in /var/lib/loopcsi; bin/loopcsi --help lists the commands.",
  );
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
