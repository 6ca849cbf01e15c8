import type { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import { messageOf } from '../errors.ts';
import type { Finding } from '../volumes/admin/doctor.ts';
import { NoDriverError } from './driver.ts';
import { FailedError } from './errors.ts';
import { count } from './output.ts';
import type { Act, Session } from './session.ts';

export function addDoctorCommand(program: Command, act: Act): void {
  program
    .command('doctor')
    .description(
      'look at kernel, programs, pools and leftovers, and say what to do; changes nothing',
    )
    .option('--quiet', 'only what is not as it should be')
    .option('--config <FILE>', "without a driver: its options, as for 'serve'")
    .option('--pool <NAME=DIR>', "without a driver: a pool, as for 'serve'", collect)
    .option('--node-id <ID>', "without a driver: as for 'serve'")
    .option('--state-dir <DIR>', "without a driver: as for 'serve'")
    .action(act(examine));
}

function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

interface DoctorOptions {
  readonly quiet?: boolean;
  readonly config?: string;
  readonly pool?: readonly string[];
  readonly nodeId?: string;
  readonly stateDir?: string;
}

async function examine(session: Session, options: DoctorOptions): Promise<void> {
  const findings = await findingsOf(session, options);
  const shown = options.quiet === true ? findings.filter(({ state }) => state !== 'ok') : findings;
  await session.show(shown, () => report(session, findings, shown));
  if (findings.some(({ state }) => state === 'fail')) {
    throw new FailedError(session.isJson ? '' : 'something will not work; see the lines with ✗');
  }
}

async function findingsOf(session: Session, options: DoctorOptions): Promise<readonly Finding[]> {
  try {
    const { admin } = await session.driver();
    const { checks } = await admin.Doctor({});
    const driver: Finding = {
      name: 'driver',
      state: 'ok',
      message: `answers on ${session.endpoint}`,
      remedy: '',
    };
    return [
      driver,
      ...checks.map(({ name, state, message, remedy }) => ({
        name,
        state: stateOf(state),
        message,
        remedy,
      })),
    ];
  } catch (error) {
    if (!(error instanceof NoDriverError)) throw error;
    return withoutDriver(session, options, error);
  }
}

/** A state this program has no name for comes from a newer driver: better looked at than passed over. */
function stateOf(state: string | number): Finding['state'] {
  if (state === 'OK') return 'ok';
  return state === 'FAIL' ? 'fail' : 'warn';
}

async function withoutDriver(
  session: Session,
  options: DoctorOptions,
  reason: NoDriverError,
): Promise<readonly Finding[]> {
  const [message = '', remedy = ''] = reason.message.split(/\. (?=Start)/);
  const driver: Finding = { name: 'driver', state: 'warn', message, remedy };
  const { quiet: _, ...flags } = options;
  const config = await loadConfig(flags, session.environment);
  try {
    const [{ makeRealHost }, { checkMachine }, { checkForgottenAlone, checkPoolAlone }] =
      await Promise.all([
        import('../host/real-host.ts'),
        import('../volumes/admin/doctor-machine.ts'),
        import('../volumes/admin/doctor-pools.ts'),
      ]);
    const host = makeRealHost();
    const { stateDir, nodeId } = config;
    const pools = config.pools.map((pool) => checkPoolAlone(pool, { host, stateDir, nodeId }));
    const paths = config.pools.map(({ path }) => path);
    return [
      driver,
      ...(await checkMachine(host)),
      ...(await Promise.all(pools)),
      ...(await checkForgottenAlone(host, stateDir, paths)),
    ];
  } catch (error) {
    const cannot: Finding = {
      name: 'kernel-calls',
      state: 'fail',
      message: `kernel calls cannot be made: ${messageOf(error)}`,
      remedy: "run 'npm ci': it brings koffi's library for this machine",
    };
    return [driver, cannot];
  }
}

const signs = { ok: '✓', warn: '!', fail: '✗' } as const;
const styles = { ok: 'green', warn: 'yellow', fail: 'red' } as const;

function report(session: Session, all: readonly Finding[], shown: readonly Finding[]): string {
  const { terminal } = session;
  const width = Math.max(0, ...shown.map(({ name }) => name.length));
  const lines = shown.map(({ name, state, message, remedy }) => {
    const head = `${terminal.style(styles[state], signs[state])} ${name.padEnd(width)}  ${message}`;
    return remedy === '' ? head : `${head}\n  ${' '.repeat(width)}  → ${remedy}`;
  });
  const warnings = all.filter(({ state }) => state === 'warn').length;
  const failures = all.filter(({ state }) => state === 'fail').length;
  const sum =
    warnings + failures === 0
      ? 'All is well.'
      : `${count(failures, 'failure')}, ${count(warnings, 'warning')}, ${count(all.length, 'check')} in all.`;
  return [...lines, sum].join('\n');
}
