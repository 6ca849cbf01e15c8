/**
 * The entry point of the program: `serve` runs the driver and `controller` the controller; any other argument is a command of the
 * command line.
 */
import { Command } from 'commander';
import { type Config, ConfigError, environment, loadConfig } from './config/load.ts';
import { addOptions, addServeOptions } from './config/options.ts';
import { messageOf, VolumeError } from './errors.ts';
import { createLog, isTextLog, type Logger } from './observe/log.ts';
import { requireRoot, warnAboutUnknownVariables } from './preflight.ts';
import { type RunningDriver, serve } from './serve.ts';
import { stopOnSignals } from './signals.ts';
import { readVersion } from './version.ts';

/** Exit codes: 0 is success, 1 a failure, 2 wrong usage (docs/operations.md). */
const failureExitCode = 1;
const usageExitCode = 2;

/** Runs `loopcsi serve`. */
async function serveCommand(argv: readonly string[]): Promise<void> {
  const command = parsedCommand(addServeOptions(new Command('loopcsi serve')), {
    description: 'Serves CSI on a unix socket until SIGTERM or SIGINT.',
    argv,
  });
  const config = await loadConfig(command.opts(), environment());
  requireRoot();
  const log = startLog(config);
  warnAboutUnknownVariables(log, environment());
  const { endProcess } = await import('./host/kernel/calls.ts');
  const running = await serve(config, { log });
  stopOnSignals(running, { log, endProcess });
  if (process.stdout.isTTY && isTextLog(config.logFormat, environment()))
    await printOverview(config, running);
}

/** Runs `loopcsi controller`. It needs no root, and writes no file but its socket. */
async function controllerCommand(argv: readonly string[]): Promise<void> {
  const [{ controllerTable, loadControllerConfig }, { runController }] = await Promise.all([
    import('./config/controller.ts'),
    import('./controller/run.ts'),
  ]);
  const command = parsedCommand(addOptions(new Command('loopcsi controller'), controllerTable), {
    description: 'Passes the calls of CSI sidecars on to the drivers of many nodes.',
    argv,
  });
  const config = await loadControllerConfig(command.opts(), environment());
  const log = startLog(config);
  warnAboutUnknownVariables(log, environment(), controllerTable);
  const running = await runController(config, {
    log,
    version: await readVersion(),
    variables: environment(),
  });
  stopOnSignals(running, { log, endProcess: () => undefined });
}

/** Parses the arguments of a mode. Wrong usage ends the process. */
function parsedCommand(
  command: Command,
  { description, argv }: { readonly description: string; readonly argv: readonly string[] },
): Command {
  return command
    .description(description)
    .showHelpAfterError('(see --help)')
    .exitOverride((end) => process.exit(end.exitCode === 0 ? 0 : usageExitCode))
    .parse(argv, { from: 'user' });
}

/** The log of a mode, in which a bug that ends the process is the last line. */
function startLog({ logLevel, logFormat }: Pick<Config, 'logLevel' | 'logFormat'>): Logger {
  const log = createLog({ level: logLevel, format: logFormat, variables: environment() });
  process.on('uncaughtException', (error) => {
    // This is a bug. The next start recovers from the interruption.
    log.fatal({ err: error }, 'uncaught exception');
    process.exit(failureExitCode);
  });
  return log;
}

async function printOverview(config: Config, running: RunningDriver): Promise<void> {
  const { commandName, overviewOf } = await import('./overview.ts');
  const [version, pools, command] = await Promise.all([
    readVersion(),
    running.opened.administration.listPools(),
    commandName(environment()),
  ]);
  const { httpPort } = running;
  process.stdout.write(overviewOf({ version, config, httpPort, pools, command }));
}

/** An `invalid` error before anything was started is about an option. */
function isUsage(error: unknown): boolean {
  return (
    error instanceof ConfigError || (error instanceof VolumeError && error.reason === 'invalid')
  );
}

async function main(): Promise<void> {
  process.umask(0o077);
  const [, , mode, ...argv] = process.argv;
  try {
    if (mode === 'serve') await serveCommand(argv);
    else if (mode === 'controller') await controllerCommand(argv);
    else {
      const { runCommandLine } = await import('./cli/program.ts');
      const context = {
        streams: process,
        environment: environment(),
        version: await readVersion(),
      };
      process.exitCode = await runCommandLine(process.argv.slice(2), context);
    }
  } catch (error) {
    process.stderr.write(`loopcsi: ${messageOf(error)}\n`);
    process.exit(isUsage(error) ? usageExitCode : failureExitCode);
  }
}

await main();
