import type { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import { messageOf } from '../errors.ts';
import type { Finding } from '../volumes/admin/doctor.ts';
import { NoDriverError } from './driver.ts';
import { FailedError } from './errors.ts';
import { removeLeftovers, requireRemoved } from './gc.ts';
import { count } from './output.ts';
import { printable } from './printable.ts';
import type { Session } from './session.ts';

export function addDoctorCommand(program: Command, session: Session): void {
  program
    .command('doctor')
    .description(
      'check kernel, programs, pools and leftovers, and suggest remedies; changes nothing without --fix',
    )
    .option('--quiet', 'show only warnings and failures')
    .option('--fix', 'afterwards remove the leftovers that gc removes, after confirmation')
    .option('--yes', 'with --fix: do not ask for confirmation')
    .option('--config <FILE>', "if no driver is running: same as for 'serve'")
    .option('--pool <NAME=DIR>', "if no driver is running: same as for 'serve'", append)
    .option('--node-id <ID>', "if no driver is running: same as for 'serve'")
    .option('--state-dir <DIR>', "if no driver is running: same as for 'serve'")
    .action(runDoctor.bind(null, session));
}

function append(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

interface DoctorOptions {
  readonly quiet?: boolean;
  readonly fix?: boolean;
  readonly yes?: boolean;
  readonly config?: string;
  readonly pool?: readonly string[];
  readonly nodeId?: string;
  readonly stateDir?: string;
}

async function runDoctor(session: Session, options: DoctorOptions): Promise<void> {
  const findings = await check(session, options);
  const shown = options.quiet === true ? findings.filter(({ state }) => state !== 'ok') : findings;
  await session.show(shown, () => formatReport(session, findings, shown));
  if (options.fix === true) await fix(session, options);
  if (findings.some(({ state }) => state === 'fail')) {
    throw new FailedError(session.isText ? 'some checks failed; see the lines marked ✗' : '');
  }
}

/** Removes the leftovers that the driver can remove. Everything else in the report needs an operator. */
async function fix(session: Session, options: DoctorOptions): Promise<void> {
  try {
    const { admin } = await session.driver();
    const { leftovers } = await admin.ListLeftovers({});
    const removals = await removeLeftovers(session, leftovers, options);
    if (session.isText && removals.length === 0) {
      session.terminal.print('There is nothing that --fix can repair.');
    }
    requireRemoved(session, removals);
  } catch (error) {
    if (!(error instanceof NoDriverError)) throw error;
    throw new FailedError(
      `${error.problem}, so nothing was repaired; a driver removes leftovers of crashes when it starts`,
    );
  }
}

async function check(session: Session, options: DoctorOptions): Promise<readonly Finding[]> {
  try {
    const { admin } = await session.driver();
    const { checks } = await admin.Doctor({});
    const message = `answers on ${session.endpoint}`;
    return [
      { name: 'driver', state: 'ok', message, remedy: '' },
      ...checks.map((one) => ({ ...one, state: stateOf(one.state) })),
    ];
  } catch (error) {
    if (!(error instanceof NoDriverError)) throw error;
    const { problem: message, remedy } = error;
    return [
      { name: 'driver', state: 'warn', message, remedy },
      ...(await checkWithoutDriver(session, options)),
    ];
  }
}

/**
 * Converts the state of a check. An unknown state comes from a newer driver, and is shown as a warning rather than hidden.
 */
function stateOf(state: string | number): Finding['state'] {
  if (state === 'OK') return 'ok';
  return state === 'FAIL' ? 'fail' : 'warn';
}

async function checkWithoutDriver(
  session: Session,
  options: DoctorOptions,
): Promise<readonly Finding[]> {
  const { quiet: _quiet, fix: _fix, yes: _yes, ...flags } = options;
  const config = await loadConfig(flags, session.environment);
  try {
    const [
      { makeRealHost },
      { checkMachine },
      { checkUnconfiguredPoolsOffline, checkPoolOffline },
    ] = await Promise.all([
      import('../host/real-host.ts'),
      import('../volumes/admin/doctor-machine.ts'),
      import('../volumes/admin/doctor-pools.ts'),
    ]);
    const host = makeRealHost({ podsCgroup: config.podsCgroup });
    const { stateDir, nodeId, kubeletDir, podsCgroup } = config;
    const mountDir = config.dockerSocket === undefined ? undefined : config.mountDir;
    const pools = config.pools.map((pool) => checkPoolOffline(pool, { host, stateDir, nodeId }));
    const paths = config.pools.map(({ path }) => path);
    return [
      ...(await checkMachine(host, { kubeletDir, mountDir }, { podsCgroup })),
      ...(await Promise.all(pools)),
      ...(await checkUnconfiguredPoolsOffline(host, stateDir, paths)),
    ];
  } catch (error) {
    const message = `system calls are not available: ${messageOf(error)}`;
    const remedy = "run 'npm ci', which installs koffi's library for this machine";
    return [{ name: 'kernel-calls', state: 'fail', message, remedy }];
  }
}

const symbols = { ok: '✓', warn: '!', fail: '✗' } as const;
const styles = { ok: 'green', warn: 'yellow', fail: 'red' } as const;

export function formatReport(
  { terminal }: Session,
  all: readonly Finding[],
  shown: readonly Finding[],
): string {
  const width = Math.max(0, ...shown.map(({ name }) => name.length));
  const lines = shown.map(({ name, state, message, remedy }) => {
    const mark = terminal.style(styles[state], symbols[state]);
    // Messages may contain texts of other users, such as events of Kubernetes.
    const head = `${mark} ${printable(name).padEnd(width)}  ${printable(message)}`;
    return remedy === '' ? head : `${head}\n  ${' '.repeat(width)}  → ${printable(remedy)}`;
  });
  const warnings = all.filter(({ state }) => state === 'warn').length;
  const failures = all.filter(({ state }) => state === 'fail').length;
  const summary =
    warnings + failures === 0
      ? 'No problems found.'
      : `${count(failures, 'failure')}, ${count(warnings, 'warning')} in ${count(all.length, 'check')}.`;
  return [...lines, summary].join('\n');
}
