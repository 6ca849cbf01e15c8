import { messageOf, type Reason, VolumeError } from '../../errors.ts';
import type { IoLimits, LoopDevice } from '../../host/host.ts';
import { areEqualLimits, hasLimits, noLimits } from '../../host/loop/io-limits.ts';
import { isLabelled } from '../../host/loop/status.ts';
import type { Domain } from '../domain.ts';
import { callIdOf } from '../pool/contents.ts';
import type { FoundVolume } from '../pool/pool.ts';

/**
 * Throws `reason` if limits are requested that this node cannot set. The message says why, and what to do: no volume that should be
 * limited is used without its limits.
 */
export async function requireLimitsApplicable(
  { host }: Pick<Domain, 'host'>,
  subject: string,
  limits: Partial<IoLimits>,
  reason: Extract<Reason, 'wrong-state' | 'no-space'> = 'wrong-state',
): Promise<void> {
  if (!hasLimits({ ...noLimits, ...limits })) return;
  const cgroup = await host.deviceLimits.findCgroup();
  if ('path' in cgroup) return;
  throw new VolumeError(
    reason,
    `${subject}: I/O limits cannot be set on this node: ${cgroup.problem}; ${cgroup.remedy}`,
  );
}

/**
 * Sets the limits of the record for a device of the volume, or removes those that are set. Idempotent. Returns whether the device
 * had other limits. A device that other software attached, for example a backup, is left alone.
 */
export async function limitDevice(
  domain: Domain,
  volume: FoundVolume,
  device: LoopDevice,
): Promise<boolean> {
  if (!isLabelled(device)) return false;
  const { limits } = volume.record;
  const { deviceLimits } = domain.host;
  const { majorMinor } = device;
  const present = (await deviceLimits.list()).get(majorMinor) ?? noLimits;
  if (areEqualLimits(present, limits)) return false;
  try {
    await deviceLimits.set(majorMinor, limits);
  } catch (error) {
    const subject = `volume '${callIdOf(volume)}'`;
    await requireLimitsApplicable(domain, subject, limits);
    throw new VolumeError(
      'unavailable',
      `${subject}: the I/O limits of ${device.path} could not be set (${messageOf(error)}); repeat the call`,
      { cause: error },
    );
  }
  await domain.reached('limits:set');
  return true;
}
