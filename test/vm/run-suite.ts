/** Runs one suite: makes its disks, boots its machine, counts its test points, and removes everything it made. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../scripts/command.ts';
import { type Counts, withRunnerFailure } from '../../scripts/test-counts.ts';
import { slownessVariable } from '../helpers/slowness.ts';
import { type Boot, bootJob, type End, type Job } from './machine/boot.ts';
import type { MachineFiles } from './machine/make.ts';
import { Report } from './report.ts';
import type { Inside, Suite, SuiteContext } from './suite.ts';

export interface RunContext {
  readonly machine: MachineFiles;
  readonly payload: string;
  /** The directories of suites are made in it. */
  readonly directory: string;
  readonly signal: AbortSignal;
  readonly print: (line: string) => void;
}

/** Emulated processors take 10 to 16 times as long, and longer on a busy host. */
const slowness = 20;

export const defaultMemoryMiB = 3072;

export async function runSuite(
  suite: Suite,
  context: RunContext,
  options: { readonly isSample: boolean },
): Promise<Counts> {
  const report = new Report(context.print);
  const directory = await mkdtemp(join(context.directory, 'suite-'));
  const overtime = AbortSignal.timeout(suite.minutes * 60_000);
  const signal = AbortSignal.any([context.signal, overtime]);
  const boots: Boot[] = [];
  try {
    await makeDisks(suite, directory);
    await follow(suite, benchOf(suite, { ...options, context, directory, signal, report, boots }));
  } catch (error) {
    context.signal.throwIfAborted();
    report.failed(
      suite.name,
      overtime.aborted ? `it takes longer than ${suite.minutes} minutes` : textOf(error),
    );
  } finally {
    // A failed suite may have left a machine running.
    for (const boot of boots) await boot.cutPower().catch(() => undefined);
    await rm(directory, { recursive: true, force: true });
  }
  if (report.skippedTests.length > 0) {
    // The machine has all prerequisites of every test.
    report.failed(`${suite.name} skips nothing`, report.skippedTests.join('\n'));
  }
  return withRunnerFailure(report.counts, 0);
}

const textOf = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message) : String(error);

async function makeDisks(suite: Suite, directory: string): Promise<void> {
  for (const { name, bytes } of suite.disks ?? []) {
    if (!/^[a-z\d-]{1,20}$/.test(name))
      throw new Error(`'${name}' cannot be a disk's serial number`);
    await run('truncate', [`--size=${bytes}`, join(directory, `${name}.img`)]);
  }
}

interface BenchContext {
  readonly context: RunContext;
  readonly directory: string;
  readonly signal: AbortSignal;
  readonly report: Report;
  readonly isSample: boolean;
  /** Every machine that was started, so that it can be stopped. */
  readonly boots: Boot[];
}

function benchOf(suite: Suite, benchContext: BenchContext): SuiteContext {
  const { context, directory, signal, report, isSample, boots } = benchContext;
  const bootDirectory = join(directory, 'boot');
  const imageOf = (name: string): string => join(directory, `${name}.img`);
  return {
    imageOf,
    directory,
    out: join(bootDirectory, 'out'),
    report,
    signal,
    isSample,
    boot: async (inside, options = {}): Promise<Boot> => {
      signal.throwIfAborted();
      await mkdir(bootDirectory, { recursive: true });
      const disks = (suite.disks ?? []).map(({ name, cache = 'unsafe' }) => ({
        name,
        image: imageOf(name),
        cache,
      }));
      const boot = await bootJob(
        {
          ...context,
          disks,
          memoryMiB: suite.memoryMiB ?? defaultMemoryMiB,
          kernelArguments: suite.kernelArguments ?? [],
          directory: bootDirectory,
          signal,
        },
        jobOf(inside),
        options.onLine ?? ((line) => report.line(line)),
      );
      boots.push(boot);
      return boot;
    },
  };
}

async function follow(suite: Suite, context: SuiteContext): Promise<void> {
  if ('drive' in suite) return suite.drive(context);
  const inside = context.isSample ? suite.sample : suite.inside;
  if (inside === undefined) throw new Error('it has no sample');
  const boot = await context.boot(inside);
  const end = await boot.ended;
  requireGoodEnd(end, context);
  await suite.check?.(context);
}

/** A job that failed without a failed test counts as one failure. */
function requireGoodEnd(end: End, { report }: SuiteContext): void {
  switch (end.kind) {
    case 'job-ended':
      report.line(`# the machine was up for ${Math.round(end.seconds)} s`);
      if (end.exitCode !== 0) reportConsole(end.console, report);
      if (withRunnerFailure(report.counts, end.exitCode).failed > report.counts.failed) {
        throw new Error(`the job ended with ${end.exitCode}`);
      }
      return;
    case 'crashed':
      reportConsole(end.console, report);
      throw new Error(`the kernel of the machine crashed: ${end.line}`);
    case 'power-cut':
      throw new Error('the power was cut');
    case 'never-up':
      throw new Error(`the machine did not come up:\n${end.console}`);
    case 'broke-off':
      throw new Error(`the machine ended before its job:\n${end.console}`);
    case 'aborted':
      throw new Error(`the machine was ended:\n${end.console}`);
  }
}

/** The kernel log may show why a test failed. */
function reportConsole(text: string, report: Report): void {
  for (const line of text.split('\n')) report.line(`# console: ${line.trimEnd()}`);
}

/** The command that runs it in the machine, with its environment. */
export function jobOf(inside: Inside): Job {
  const environment = {
    NO_COLOR: '1',
    [slownessVariable]: String(slowness),
    ...inside.environment,
  };
  const node = ['node', '--enable-source-maps'];
  if ('program' in inside) {
    const program = `dist/test/vm/inside/${inside.program}.js`;
    return { argv: [...node, program, ...(inside.args ?? [])], environment };
  }
  const { tests, match = [], idleMinutes = 10 } = inside;
  const flags = ['--tap', '--serial', '--concurrency=1', `--timeout=${idleMinutes}m`];
  return {
    argv: [
      'node',
      'node_modules/ava/entrypoints/cli.mjs',
      ...flags,
      ...match.map((title) => `--match=${title}`),
      ...tests.map((test) => `dist/test/${test}.js`),
    ],
    environment,
  };
}
