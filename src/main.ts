/** The program: `loopcsi serve` runs a driver, everything else is a command of the command line. */
import { Command } from 'commander';
import { ConfigError, environment, loadConfig } from './config/load.ts';
import { addServeOptions } from './config/options.ts';
import { messageOf } from './errors.ts';
import { createLog } from './observe/log.ts';
import { requireRoot, tellUnknownVariables } from './preflight.ts';
import { serve } from './serve.ts';
import { stopOnSignals } from './signals.ts';
import { readVersion } from './version.ts';

/** Exit codes: 0 done, 1 failed, 2 wrong use (docs/operations.md). */
const failed = 1;
const wrongUse = 2;

/** `loopcsi serve`. */
async function serveCommand(argv: readonly string[]): Promise<void> {
  const command = addServeOptions(new Command('loopcsi serve'))
    .description('Serves CSI on a unix socket until it is told to stop.')
    .showHelpAfterError("('--help' tells how to use it)")
    .exitOverride((end) => process.exit(end.exitCode === 0 ? 0 : wrongUse))
    .parse(argv, { from: 'user' });
  const config = await loadConfig(command.opts(), environment());
  requireRoot();
  const log = createLog({ level: config.logLevel });
  tellUnknownVariables(log, environment());
  process.on('uncaughtException', (error) => {
    // A bug: what it left is settled by the next start.
    log.fatal({ err: error }, 'uncaught');
    process.exit(failed);
  });
  const { endProcess } = await import('./host/kernel/calls.ts');
  const running = await serve(config, { log });
  stopOnSignals(running, { log, endProcess });
}

async function main(): Promise<void> {
  process.umask(0o077);
  const [, , mode, ...argv] = process.argv;
  try {
    if (mode === 'serve') await serveCommand(argv);
    else {
      const { runCommandLine } = await import('./cli/program.ts');
      const given = { streams: process, environment: environment(), version: await readVersion() };
      process.exitCode = await runCommandLine(process.argv.slice(2), given);
    }
  } catch (error) {
    process.stderr.write(`loopcsi: ${messageOf(error)}\n`);
    process.exit(error instanceof ConfigError ? wrongUse : failed);
  }
}

await main();
