import type { Domain } from '../domain.ts';
import { type Finding, ok, warn } from './doctor.ts';

/** Clocks of machines in a cluster differ by less than this. */
const toleranceMs = 5 * 60_000;

/** Finds a clock that was set back: then some volumes or snapshots seem to have been created in the future. */
export function checkClock(domain: Pick<Domain, 'pools' | 'now'>): readonly Finding[] {
  const nowMs = domain.now();
  const records = domain.pools.served.flatMap((pool) => [
    ...pool.volumes.values(),
    ...pool.ephemerals.values(),
    ...pool.snapshots.values(),
  ]);
  if (records.length === 0) return [];
  const latest = records.reduce((a, b) => (a.createdAtMs >= b.createdAtMs ? a : b));
  if (latest.createdAtMs <= nowMs + toleranceMs) {
    return [ok('clock', 'no volume or snapshot was created in the future')];
  }
  return [
    warn(
      'clock',
      `'${latest.name}' was created at ${new Date(latest.createdAtMs).toISOString()}, but the clock says ${new Date(nowMs).toISOString()}`,
      'check the clock of this machine and its NTP service; ages, daily trims and the order of snapshots depend on it',
    ),
  ];
}
