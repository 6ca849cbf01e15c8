import type { VolumeCapability } from '../csi/types.ts';
import { VolumeError } from '../errors.ts';
import type { CsiContext } from './context.ts';
import { parseAskedCapabilities } from './forms.ts';
import { combineCapabilities } from './volume-capability.ts';

/**
 * CSI spec, "ValidateVolumeCapabilities". Returns the reason why the volume does not support the request, or undefined if it
 * does. Throws `invalid` for a malformed capability and `not-found` for an unknown volume.
 */
export async function findRefusal(
  { settings, volumes }: CsiContext,
  requested: {
    readonly volumeId: string;
    readonly capabilities: readonly VolumeCapability[];
    readonly parameters: Readonly<Record<string, string>>;
    readonly context: Readonly<Record<string, string>>;
  },
): Promise<string | undefined> {
  const { volumeId, parameters, context } = requested;
  const { capabilities, refusal } = parseAskedCapabilities(requested.capabilities);
  // NOT_FOUND for an unknown volume takes precedence over the refusal.
  await volumes.getVolume(volumeId);
  if (refusal !== undefined) return refusal;
  try {
    combineCapabilities(capabilities, settings.defaultFstype);
  } catch (error) {
    if (error instanceof VolumeError) return error.message;
    throw error;
  }
  return volumes.findMismatch(volumeId, { capabilities, parameters, context });
}
