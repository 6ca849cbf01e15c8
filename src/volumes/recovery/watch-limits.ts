import { callPeriodically } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import type { IoLimits, LoopDevice } from '../../host/host.ts';
import { areEqualLimits, hasLimits, noLimits } from '../../host/loop/io-limits.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { deviceLaneOf, volumeAttachedTo, volumesAtPathOf } from '../attachment/device-owner.ts';
import { limitDevice } from '../attachment/io-limits.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import { volumeLock } from '../engine/locks.ts';
import { callIdOf } from '../pool/contents.ts';
import type { FoundVolume } from '../pool/pool.ts';

const checkIntervalMs = 10_000;

/**
 * Periodically compares the limits of attached devices with the records: the cgroup of all pods may have been made anew, or another
 * process may have written to `io.max`. Returns a function that stops it.
 */
export function watchLimits(domain: Domain): () => void {
  const limitCheck = new LimitCheck(domain);
  const check = async (): Promise<number> => {
    try {
      await limitCheck.run();
    } catch (error) {
      domain.log.warn({ problem: messageOf(error) }, 'the I/O limits of volumes were not checked');
    }
    return checkIntervalMs;
  };
  return callPeriodically(check, checkIntervalMs);
}

export class LimitCheck {
  readonly #domain: Domain;
  /** The last problem of the cgroup that was logged; undefined if there is none. */
  #logged: string | undefined;
  /** The limits of the driver's devices at the last check, by `7:N`. */
  #ofVolumes: ReadonlyMap<string, IoLimits> = new Map();

  constructor(domain: Domain) {
    this.#domain = domain;
  }

  /**
   * Sets limits that differ from the records, and removes those of numbers whose device another process has detached, also if it has
   * attached another one since the last check. Logs an error if volumes in use have lost the cgroup. Devices are checked independently of
   * each other: a failure, or a pool that does not answer, affects only its own.
   */
  async run(): Promise<void> {
    const domain = inLane(this.#domain, { kind: 'devices', id: 'limits' });
    const { deviceLimits, loops } = domain.host;
    if (!isAnyLimited(domain) && (await deviceLimits.list()).size === 0) return;
    const cgroup = await deviceLimits.findCgroup();
    const devices = (await loops.list()).filter(isLabelled);
    if (!('path' in cgroup)) {
      await this.#logProblem(domain, devices, cgroup.problem);
      return;
    }
    this.#logged = undefined;
    const limited = [...(await deviceLimits.list())];
    await Promise.all([
      ...devices.map((device) => attempt(domain, device.path, () => repair(domain, device))),
      ...limited.map(([majorMinor, present]) => {
        const wasOfVolume = areEqualLimits(this.#ofVolumes.get(majorMinor) ?? noLimits, present);
        return attempt(domain, `/dev/loop${numberOf(majorMinor)}`, () =>
          removeStale(domain, majorMinor, wasOfVolume),
        );
      }),
    ]);
    const own = new Set(devices.map(({ majorMinor }) => majorMinor));
    this.#ofVolumes = new Map(
      [...(await deviceLimits.list())].filter(([majorMinor]) => own.has(majorMinor)),
    );
  }

  /** Logs a problem once, if a limited volume is attached. */
  async #logProblem(
    domain: Domain,
    devices: readonly LoopDevice[],
    problem: string,
  ): Promise<void> {
    if (problem === this.#logged) return;
    const found = await Promise.all(devices.map((device) => volumesAtPathOf(domain, device)));
    const limited = found.flat().filter(({ record }) => hasLimits(record.limits));
    if (limited.length === 0) return;
    this.#logged = problem;
    domain.log.error(
      { volumeIds: limited.map(callIdOf), problem },
      'volumes in use are no longer limited: their I/O limits cannot be set',
    );
  }
}

/** Runs the check of one device. Its failure does not end the check of others. */
async function attempt(domain: Domain, device: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const problem = messageOf(error);
    domain.log.warn({ device, problem }, 'the I/O limits of a device could not be repaired');
  }
}

function numberOf(majorMinor: string): number {
  return Number(majorMinor.split(':')[1]);
}

/** `wasOfVolume`: these were the limits of a volume at the last check, so a device that other software has attached since loses them. */
async function removeStale(
  domain: Domain,
  majorMinor: string,
  wasOfVolume: boolean,
): Promise<void> {
  const { deviceLimits, loops } = domain.host;
  const number = numberOf(majorMinor);
  const present = await loops.at(number);
  if (present !== undefined && (isLabelled(present) || !wasOfVolume)) return;
  await deviceLimits.set(majorMinor, noLimits);
  domain.log.warn({ device: `/dev/loop${number}` }, 'removed I/O limits of a detached device');
  // A call may have attached the number and set its limits in between.
  const attached = await loops.at(number);
  if (attached !== undefined && isLabelled(attached)) await repair(domain, attached);
}

function isAnyLimited({ pools }: Domain): boolean {
  return pools.served.some((pool) =>
    [...pool.images()].some(({ record }) => hasLimits(record.limits)),
  );
}

/**
 * Skips a volume that a call has locked: that call sets its limits. A volume with the right limits is not locked, because calls wait
 * meanwhile, and its pool is not asked.
 */
async function repair(domain: Domain, device: LoopDevice): Promise<void> {
  const present = (await domain.host.deviceLimits.list()).get(device.majorMinor) ?? noLimits;
  const differs = ({ record }: FoundVolume): boolean => !areEqualLimits(present, record.limits);
  if (!(await volumesAtPathOf(domain, device)).some(differs)) return;
  const domainOf = (volume: FoundVolume): Domain => inLane(domain, deviceLaneOf(volume));
  const found = await volumeAttachedTo(domain, device, domainOf);
  if (found === undefined || !differs(found)) return;
  const volumeId = callIdOf(found);
  const unlock = domain.operations.locks.acquireForCheck(
    { exclusive: [volumeLock(volumeId)] },
    'a check of its I/O limits',
  );
  if (unlock === undefined) return;
  try {
    const volume = await volumeAttachedTo(domain, device, domainOf);
    if (volume === undefined || callIdOf(volume) !== volumeId) return;
    if (!(await limitDevice(domainOf(volume), volume, device))) return;
    domain.log.warn(
      { volumeId, device: device.path },
      'the I/O limits of a volume had been changed and were set again',
    );
  } finally {
    domain.operations.releaseWhenReturned(deviceLaneOf(found), unlock);
  }
}
