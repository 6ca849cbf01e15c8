import { VolumeError } from '../../errors.ts';
import type { IoLimits } from '../../host/host.ts';
import { noLimits } from '../../host/loop/io-limits.ts';
import type { VolumeRecord } from '../../state/records.ts';
import type { MutableSettings, TrimMode } from '../model.ts';
import { parseLimits } from './io-limits.ts';
import { defaultTrimOf, parseMutableParameters } from './storage-class.ts';

/** Values of the parameters that can be changed. */
interface MutableValues {
  readonly trim: TrimMode;
  readonly limits: IoLimits;
}

/** The values that the volume was created with. Later changes are in its record, but not among the parameters of its request. */
export function valuesAtCreation({ parameters, provisioning, trim }: VolumeRecord): MutableValues {
  const requested = parameters['trim'] ?? defaultTrimOf(provisioning);
  return {
    // The value was checked when the volume was created.
    trim:
      requested === 'online' || requested === 'periodic' || requested === 'off' ? requested : trim,
    limits: { ...noLimits, ...parseLimits(parameters) },
  };
}

/** Whether the text of a parameter that can be changed is its present value. */
export function isPresentValue(record: VolumeRecord, key: string, text: string): boolean {
  let settings: MutableSettings;
  try {
    settings = parseMutableParameters({ [key]: text });
  } catch (error) {
    if (error instanceof VolumeError) return false;
    throw error;
  }
  if (settings.trim !== undefined) return settings.trim === record.trim;
  return Object.entries(settings.limits).every(
    ([name, limit]) => record.limits[name as keyof IoLimits] === limit,
  );
}
