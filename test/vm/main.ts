/**
 * `npm run test:vm`: boots a Debian machine with its own kernel in QEMU and runs suites of tests in it (CONTRIBUTING.md, "Tests in
 * a virtual machine"). The last line is `N passed, N failed`; the exit code is 1 if a test failed.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addCounts, type Counts, formatCounts, zeroCounts } from '../../scripts/test-counts.ts';
import { type Options, parseArguments, usage } from './arguments.ts';
import { findSuites, isInSample } from './find-suites.ts';
import { requirePrograms } from './machine/architecture.ts';
import { bootShell } from './machine/boot.ts';
import { makeMachine } from './machine/make.ts';
import { makePayload } from './machine/payload.ts';
import { findPrograms } from './machine/programs.ts';
import { type MachineKind, machineName } from './machine/release.ts';
import { defaultMemoryMiB, type RunContext, runSuite } from './run-suite.ts';

const say = (line: string): void => void process.stderr.write(`vm: ${line}\n`);

/** Aborts on a signal that ends the run, so that the run can clean up. */
function interruptions(): AbortSignal {
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => interrupted.abort(new Error(`ended by ${signal}`)));
  }
  return interrupted.signal;
}

/** Makes the files that every boot needs, in a directory that is removed afterwards. */
async function withMachine(
  kind: MachineKind,
  work: (context: RunContext) => Promise<void>,
): Promise<void> {
  await requirePrograms(kind.architecture);
  const signal = interruptions();
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-vm-'));
  try {
    const startedAtMs = Date.now();
    const machine = await makeMachine(kind, { signal, say });
    const programs = await findPrograms(kind.architecture, signal);
    const payload = await makePayload(directory, programs, signal);
    say(`the machine is ready to boot after ${secondsSince(startedAtMs)} s`);
    await work({ machine, payload, directory, signal, print: (line) => console.log(line) });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

const secondsSince = (startedAtMs: number): number => Math.round((Date.now() - startedAtMs) / 1000);

async function runSuites(options: Extract<Options, { kind: 'suites' }>): Promise<void> {
  const { machine, only, isSample } = options;
  const suites = (await findSuites()).filter(
    (suite) => suite.name.includes(only) && (!isSample || isInSample(suite)),
  );
  if (suites.length === 0) throw new Error(`no suite has '${only}' in its name: see --list`);
  await withMachine(machine, async (context) => {
    let total: Counts = zeroCounts;
    for (const suite of suites) {
      const startedAtMs = Date.now();
      console.log(`\n== ${suite.name} (${machineName(machine)})`);
      const counts = await runSuite(suite, context, { isSample });
      console.log(`== ${suite.name}: ${formatCounts(counts)} in ${secondsSince(startedAtMs)} s`);
      total = addCounts(total, counts);
    }
    console.log(`\n${formatCounts(total)}`);
    process.exitCode = total.failed > 0 ? 1 : 0;
  });
}

async function listSuites(): Promise<void> {
  for (const suite of await findSuites()) {
    const sample = isInSample(suite) ? ', in the sample' : '';
    console.log(`${suite.name}: ${suite.about} (at most ${suite.minutes} minutes${sample})`);
  }
}

async function execute(options: Options): Promise<void> {
  switch (options.kind) {
    case 'list':
      return listSuites();
    case 'shell':
      return withMachine(options.machine, async (context) =>
        bootShell({ ...context, disks: [], memoryMiB: defaultMemoryMiB, kernelArguments: [] }),
      );
    case 'suites':
      return runSuites(options);
  }
}

try {
  let options: Options;
  try {
    options = parseArguments(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${usage}`);
    process.exit(2);
  }
  await execute(options);
} catch (error) {
  process.exitCode = 1;
  console.error(error);
}
