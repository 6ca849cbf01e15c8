import { callPeriodically } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import type { LoopDevice } from '../../host/host.ts';
import { areEqualLimits, hasLimits, noLimits } from '../../host/loop/io-limits.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { volumeAttachedTo } from '../attachment/device-owner.ts';
import { limitDevice } from '../attachment/io-limits.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import { volumeLock } from '../engine/locks.ts';
import { callIdOf } from '../pool/contents.ts';

const checkIntervalMs = 10_000;

/**
 * Periodically compares the limits of attached devices with the records: the cgroup of all pods may have been made anew, or another
 * process may have written to `io.max`. Returns a function that stops it.
 */
export function watchLimits(domain: Domain): () => void {
  const check = async (): Promise<number> => {
    try {
      await repairLimits(domain);
    } catch (error) {
      domain.log.warn({ problem: messageOf(error) }, 'the I/O limits of volumes were not checked');
    }
    return checkIntervalMs;
  };
  return callPeriodically(check, checkIntervalMs);
}

/**
 * Sets limits that differ from the records, and removes those of numbers to which nothing is attached: the device was detached by
 * another process while no driver ran. Does nothing without a cgroup.
 */
export async function repairLimits(domain: Domain): Promise<void> {
  const deps = inLane(domain, { kind: 'devices', id: 'limits' });
  const { deviceLimits, loops } = deps.host;
  if (!isAnyLimited(domain) && (await deviceLimits.list()).size === 0) return;
  if (!('path' in (await deviceLimits.findCgroup()))) return;
  const devices = await loops.list();
  for (const device of devices.filter(isLabelled)) await repairDevice(deps, device);
  for (const majorMinor of (await deviceLimits.list()).keys()) {
    const number = Number(majorMinor.split(':')[1]);
    if ((await loops.at(number)) !== undefined) continue;
    await deviceLimits.set(majorMinor, noLimits);
    domain.log.warn({ device: `/dev/loop${number}` }, 'removed I/O limits of a detached device');
  }
}

function isAnyLimited({ pools }: Domain): boolean {
  return pools.served.some((pool) =>
    [...pool.images()].some(({ record }) => hasLimits(record.limits)),
  );
}

/**
 * Skips a volume that a call has locked: that call sets its limits. A volume with the right limits is not locked, because calls are
 * refused meanwhile.
 */
async function repairDevice(domain: Domain, device: LoopDevice): Promise<void> {
  const found = await volumeAttachedTo(domain, device);
  if (found === undefined) return;
  const present = (await domain.host.deviceLimits.list()).get(device.majorMinor) ?? noLimits;
  if (areEqualLimits(present, found.record.limits)) return;
  const volumeId = callIdOf(found);
  const unlock = domain.operations.locks.tryAcquire(
    { exclusive: [volumeLock(volumeId)] },
    'a check of its I/O limits',
  );
  if (unlock === undefined) return;
  try {
    const volume = await volumeAttachedTo(domain, device);
    if (volume === undefined || callIdOf(volume) !== volumeId) return;
    if (!(await limitDevice(domain, volume, device))) return;
    domain.log.warn(
      { volumeId, device: device.path },
      'the I/O limits of a volume had been changed and were set again',
    );
  } finally {
    unlock();
  }
}
