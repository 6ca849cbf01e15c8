/** All commands but `serve`. Loaded by main.ts when one of them is asked for, so that starting a driver does not pay for it. */
import { Command } from 'commander';
import { addServeOptions, environmentOf, optionTable } from '../config/options.ts';
import { addCompletionCommand } from './completion.ts';
import { addDoctorCommand } from './doctor.ts';
import { failureOf, UsageError } from './errors.ts';
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

/** `note` is told what Commander finds wrong, and the help that goes with it. */
export function makeProgram(
  invocation: Invocation,
  note = (text: string) => invocation.terminal.note(text),
): Command {
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
        note(text.trimEnd());
      },
      getOutHelpWidth: () => Math.min(invocation.terminal.columns, 120),
      getErrHelpWidth: () => Math.min(invocation.terminal.columns, 120),
    })
    .exitOverride();
  // Handled by main.ts before this is loaded; here for help and completion, and for whom puts a flag before it.
  addServeOptions(
    program
      .command('serve')
      .description("run the driver until it is told to stop ('serve --help')")
      .action(() => {
        throw new UsageError(
          "'serve' comes first, its flags behind it: loopcsi serve --endpoint …",
        );
      }),
  );
  addVolumeCommands(program, act);
  addSnapshotCommands(program, act);
  addPoolCommands(program, act);
  addDoctorCommand(program, act);
  addVersionCommand(program, act);
  addCompletionCommand(program, act);
  addHelpCommand(program);
  return program;
}

/** Commander's own `help` takes one word; `help volume create` is what people write. */
function addHelpCommand(program: Command): void {
  program
    .helpCommand(false)
    .command('help')
    .description('what a command is for, and its flags')
    .argument('[command...]')
    .action((words: readonly string[]) => {
      let command = program;
      for (const word of words) {
        const next = command.commands.find(
          (one) => one.name() === word || one.aliases().includes(word),
        );
        if (next === undefined) throw new UsageError(`there is no command '${words.join(' ')}'`);
        command = next;
      }
      command.outputHelp();
    });
}

/** Nobody gets the result: the disk it goes to is full, or the reader of the pipe has left, who needs no word of it. */
function endUnheard(error: NodeJS.ErrnoException, terminal: Terminal): never {
  if (error.code !== 'EPIPE') {
    terminal.note(`loopcsi: standard output cannot be written: ${error.message}`);
  }
  process.exit(1);
}

/** Runs one command line, without the program's own name; its exit code. Throws nothing. */
export async function runCommandLine(
  argv: readonly string[],
  given: Omit<Invocation, 'terminal'> & { readonly streams: Streams },
): Promise<number> {
  const terminal = new Terminal(given.streams, given.environment);
  given.streams.stdout.on('error', (error) => endUnheard(error, terminal));
  const invocation = { ...given, terminal };
  const isJson = argv.includes('--json');
  const note = isJson ? () => undefined : (text: string) => terminal.note(text);
  try {
    await makeProgram(invocation, note).parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    const { exitCode, message, code, isSaid } = failureOf(error);
    if (message !== '' && isJson) terminal.note(toJson({ error: { code, message } }));
    else if (message !== '' && !isSaid) {
      terminal.note(`${terminal.style('red', 'loopcsi:')} ${message}`);
    }
    return exitCode;
  }
}
