import type { IoLimits, LoopDevice } from '../../host/host.ts';
import { areEqualLimits } from '../../host/loop/io-limits.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { volumeRecord } from '../../state/records.ts';
import { attachmentOf } from '../attachment/attachment.ts';
import { limitDevice, requireLimitsApplicable } from '../attachment/io-limits.ts';
import { changeVolume } from '../change-volume.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import type { ModifyInput } from '../model.ts';
import { requireTrimFits } from '../parameters/storage-class.ts';
import { rewriteRecord } from '../pool/commit.ts';
import type { FoundVolume } from '../pool/pool.ts';

/**
 * CSI spec, ControllerModifyVolume: records the new values, then sets the limits of the attached devices. Idempotent. A changed
 * `trim` is used by periodic trims at once, and by devices and mounts from the next stage on. Throws `invalid` if `trim` does not fit the volume,
 * `wrong-state` for limits that this node cannot set; both before anything has changed.
 */
export async function modifyVolume(domain: Domain, call: Call, input: ModifyInput): Promise<void> {
  const { volumeId, settings } = input;
  const volumeCall = { name: 'ControllerModifyVolume', volumeId, request: input };
  await changeVolume(domain, call, volumeCall, async (domain, volume, operation) => {
    const { pool, area, record } = volume;
    pool.requireServed();
    const trim = settings.trim ?? record.trim;
    const limits = { ...record.limits, ...settings.limits };
    requireTrimFits(trim, record.provisioning);
    await requireLimitsApplicable(domain, `volume '${volumeId}'`, settings.limits);
    const devices = await devicesToLimit(domain, volume, settings.limits);
    if (devices.length > 0) await requireLimitsApplicable(domain, `volume '${volumeId}'`, limits);
    operation.beginEffects();
    const modified = { ...record, trim, limits };
    if (trim !== record.trim || !areEqualLimits(limits, record.limits)) {
      await rewriteRecord(domain.host.files, { pool, area, schema: volumeRecord }, modified);
      await domain.reached('modify:recorded');
    }
    for (const device of devices)
      await limitDevice(domain, { ...volume, record: modified }, device);
  });
}

/** The attached devices of the volume if its limits are to change. A change of `trim` alone needs no cgroup. */
async function devicesToLimit(
  domain: Domain,
  volume: FoundVolume,
  limits: Partial<IoLimits>,
): Promise<readonly LoopDevice[]> {
  if (Object.keys(limits).length === 0) return [];
  const { devices } = await attachmentOf(domain, volume);
  return devices.filter(isLabelled);
}
