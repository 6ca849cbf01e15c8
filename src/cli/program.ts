/** All commands except `serve`. main.ts does not load this file for `serve`, so that the driver starts faster. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { controllerTable } from '../config/controller.ts';
import {
  addOptions,
  addServeOptions,
  environmentVariableOf,
  optionTable,
} from '../config/options.ts';
import { addClusterCommands } from './cluster/commands.ts';
import { addCompletionCommands, addKubectlCompletion } from './completion/command.ts';
import { addDoctorCommand } from './doctor.ts';
import { exitCodes, failureOf, UsageError } from './errors.ts';
import { addGcCommand } from './gc.ts';
import { addNodeCommands } from './node.ts';
import { type OutputFormat, outputFormats, toJson } from './output.ts';
import { addPoolCommands } from './pool.ts';
import { type GlobalOptions, type Invocation, Session } from './session.ts';
import { addSnapshotCommands } from './snapshot.ts';
import { type Streams, Terminal } from './terminal.ts';
import { addTlsCommands } from './tls-create.ts';
import { addTopCommand } from './top.ts';
import { addVersionCommand } from './version.ts';
import { addVolumeCommands } from './volume.ts';

const epilogue = `
Exit codes: 0 success, 1 failure, 2 usage error. With --json results are JSON; docs/command-line.md lists the keys.
First steps: loopcsi doctor; loopcsi serve; loopcsi volume create data --size 10Gi; loopcsi volume mount data /mnt/data`;

const pluginEpilogue = `
Exit codes: 0 success, 1 failure, 2 usage error. With --json results are JSON; docs/command-line.md lists the keys.
The same commands are those of 'loopcsi cluster'. First steps: kubectl loopcsi doctor; kubectl loopcsi volumes`;

/** The first argument with which bin/kubectl-loopcsi and bin/kubectl_complete-loopcsi start this program. */
export const pluginMode = 'kubectl-plugin';

/** `printError` prints Commander's own errors, and the help that follows them. */
type PrintError = (text: string) => void;

function printErrorOf(session: Session): PrintError {
  return (text) => session.terminal.printError(text);
}

export function makeProgram(session: Session, printError = printErrorOf(session)): Command {
  const program = makeRoot('loopcsi', session, printError)
    .description('Provides volumes with enforced size limits in directories of this machine.')
    .option(
      '--endpoint <unix://PATH>',
      `socket of the driver [${environmentVariableOf('endpoint')}; default ${optionTable.endpoint.default}]`,
    )
    .addHelpText('after', epilogue);
  addProcessCommands(program);
  addVolumeCommands(program, session);
  addSnapshotCommands(program, session);
  addPoolCommands(program, session);
  addNodeCommands(program, session);
  addTopCommand(program, session);
  addDoctorCommand(program, session);
  addGcCommand(program, session);
  addTlsCommands(program, session);
  addClusterCommands(
    program
      .command('cluster')
      .description(
        "commands for a Kubernetes cluster, also as 'kubectl loopcsi'; they run kubectl",
      ),
    session,
  );
  addVersionCommand(program, session);
  addCompletionCommands(program, session);
  addHelpCommand(program);
  return program;
}

/** main.ts runs these commands. They are defined here for help and completion, and for an error if a flag precedes them. */
function addProcessCommands(program: Command): void {
  addServeOptions(
    program
      .command('serve')
      .description("run the driver until it gets SIGTERM ('serve --help')")
      .action(() => {
        throw new UsageError(
          "'serve' must be the first argument, before its flags: loopcsi serve --endpoint …",
        );
      }),
  );
  addOptions(
    program
      .command('controller')
      .description(
        "pass the calls of CSI sidecars on to the drivers of many nodes ('controller --help')",
      )
      .action(() => {
        throw new UsageError(
          "'controller' must be the first argument, before its flags: loopcsi controller --agents …",
        );
      }),
    controllerTable,
  );
}

/** The plugin that kubectl runs for `kubectl loopcsi`: the commands of `loopcsi cluster`, which need no driver. */
export function makePlugin(session: Session, printError = printErrorOf(session)): Command {
  const plugin = makeRoot('kubectl loopcsi', session, printError)
    .description('Shows and checks the volumes and the driver of a Kubernetes cluster.')
    .addHelpText('after', pluginEpilogue);
  addClusterCommands(plugin, session);
  addKubectlCompletion(plugin, session);
  addHelpCommand(plugin);
  return plugin;
}

/** A program without commands: the flags that all commands have, and where its output goes. */
function makeRoot(name: string, session: Session, printError: PrintError): Command {
  const { terminal, version } = session;
  return new Command(name)
    .addOption(
      new Option('-o, --output <FORMAT>', 'format of the result')
        .choices([...outputFormats])
        .argParser(parseFormat)
        .default('table'),
    )
    .option('--json', 'print the result as JSON, as with --output json')
    .version(version, '--version', 'print the version of this program')
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .showHelpAfterError("(see '--help')")
    .configureOutput({
      writeOut: (text) => {
        terminal.print(text.trimEnd());
      },
      writeErr: (text) => {
        printError(text.trimEnd());
      },
      getOutHelpWidth: () => Math.min(terminal.columns, 120),
      getErrHelpWidth: () => Math.min(terminal.columns, 120),
    })
    .exitOverride()
    .hook('preAction', (parsed) => {
      session.options = parsed.opts<GlobalOptions>();
    });
}

/** `volume mount -o noatime` is a habit from mount(8). */
function parseFormat(text: string): OutputFormat {
  const format = outputFormats.find((one) => one === text);
  if (format !== undefined) return format;
  throw new InvalidArgumentError(
    `Allowed formats are ${outputFormats.join(', ')}. Mount options follow --options.`,
  );
}

/** Replaces Commander's own `help`, which accepts only one name: this one also accepts `help volume create`. */
function addHelpCommand(program: Command): void {
  program
    .helpCommand(false)
    .command('help')
    .description('show what a command does, and its flags')
    .argument('[command...]')
    .action((names: readonly string[]) => {
      let command = program;
      for (const name of names) {
        const next = command.commands.find(
          (child) => child.name() === name || child.aliases().includes(name),
        );
        if (next === undefined) throw new UsageError(`there is no command '${names.join(' ')}'`);
        command = next;
      }
      command.outputHelp();
    });
}

/**
 * Reports write errors, for example of a full disk. EPIPE is not reported: the reader of the pipe, for example `head`, has
 * exited.
 */
function exitOnStdoutError(error: NodeJS.ErrnoException, terminal: Terminal): never {
  if (error.code !== 'EPIPE') {
    terminal.printError(`loopcsi: cannot write to standard output: ${error.message}`);
  }
  process.exit(exitCodes.failure);
}

/**
 * Runs one command line and returns its exit code. `argv` does not include the program's name; if it begins with `pluginMode`, the
 * rest is a command line of the plugin. Never throws.
 */
export async function runCommandLine(
  argv: readonly string[],
  given: Omit<Invocation, 'terminal'> & { readonly streams: Streams },
): Promise<number> {
  const terminal = new Terminal(given.streams, given.environment);
  given.streams.stdout.on('error', (error) => exitOnStdoutError(error, terminal));
  const session = new Session({ ...given, terminal });
  // With --json, Commander's errors must be JSON too, but Commander can fail before it has parsed that flag.
  const isJson = /(?:^| )(?:--json|(?:-o ?|--output[ =])json)(?: |$)/.test(argv.join(' '));
  const printError = isJson ? () => undefined : printErrorOf(session);
  const isPlugin = argv[0] === pluginMode;
  const program = (isPlugin ? makePlugin : makeProgram)(session, printError);
  try {
    await program.parseAsync(isPlugin ? argv.slice(1) : argv, { from: 'user' });
    return exitCodes.success;
  } catch (error) {
    const { exitCode, message, code, isPrinted } = failureOf(error);
    if (message !== '' && isJson) terminal.printError(toJson({ error: { code, message } }));
    else if (message !== '' && !isPrinted) {
      terminal.printError(`${terminal.style('red', `${program.name()}:`)} ${message}`);
    }
    return exitCode;
  } finally {
    session.close();
  }
}
