/** All commands but `serve`. Loaded by main.ts when one of them is asked for, so that starting a driver does not pay for it. */
import { Command } from 'commander';
import { environmentOf, optionTable } from '../config-options.ts';
import { addCompletionCommand } from './completion.ts';
import { addDoctorCommand } from './doctor.ts';
import { failureOf } from './errors.ts';
import { toJson } from './output.ts';
import { addPoolCommands } from './pool.ts';
import { actWith, type Invocation } from './session.ts';
import { addSnapshotCommands } from './snapshot.ts';
import { type Streams, Terminal } from './terminal.ts';
import { addVersionCommand } from './version.ts';
import { addVolumeCommands } from './volume.ts';

const epilogue = `
Exit codes: 0 done, 1 failed, 2 wrong use. With --json results are JSON; docs/command-line.md lists the keys.
First steps: loopcsi doctor; loopcsi serve; loopcsi volume create data --size 10Gi; loopcsi volume mount data /mnt/data`;

export function makeProgram(invocation: Invocation): Command {
  const act = actWith(invocation);
  const program = new Command('loopcsi')
    .description('Makes real volumes out of directories of this machine.')
    .option(
      '--endpoint <unix://PATH>',
      `socket of the driver [${environmentOf('endpoint')}; default ${optionTable.endpoint.default}]`,
    )
    .option('--json', 'print the result as JSON')
    .version(invocation.version, '--version', 'print the version of this program')
    .addHelpText('after', epilogue)
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .showHelpAfterError("('--help' tells how to use it)")
    .configureOutput({
      writeOut: (text) => {
        invocation.terminal.print(text.trimEnd());
      },
      writeErr: (text) => {
        invocation.terminal.note(text.trimEnd());
      },
      getOutHelpWidth: () => Math.min(invocation.terminal.columns, 120),
      getErrHelpWidth: () => Math.min(invocation.terminal.columns, 120),
    })
    .exitOverride();
  // Handled by main.ts before this is loaded; here so that the help names it.
  program.command('serve').description("run the driver until it is told to stop ('serve --help')");
  addVolumeCommands(program, act);
  addSnapshotCommands(program, act);
  addPoolCommands(program, act);
  addDoctorCommand(program, act);
  addVersionCommand(program, act);
  addCompletionCommand(program, act);
  return program;
}

/** Runs one command line, without the program's own name; its exit code. Throws nothing. */
export async function runCommandLine(
  argv: readonly string[],
  given: Omit<Invocation, 'terminal'> & { readonly streams: Streams },
): Promise<number> {
  const terminal = new Terminal(given.streams, given.environment);
  const invocation = { ...given, terminal };
  try {
    await makeProgram(invocation).parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    const { exitCode, message, code } = failureOf(error);
    if (message !== '') {
      const text = argv.includes('--json')
        ? toJson({ error: { code, message } })
        : `${terminal.style('red', 'loopcsi:')} ${message}`;
      terminal.note(text);
    }
    return exitCode;
  }
}
