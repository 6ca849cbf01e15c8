import type { VolumeCapability } from '../csi/types.ts';
import { VolumeError } from '../errors.ts';
import type { Call } from '../volumes/operations.ts';
import type { Front } from './context.ts';
import { combineCapabilities, parseCapabilities } from './volume-capability.ts';

/**
 * CSI spec, "ValidateVolumeCapabilities": why the volume does not fit what is asked, or undefined when all of it does. A
 * capability that this driver never has is such a reason, a malformed one is `invalid`. Throws `not-found`.
 */
export async function findMismatch(
  { settings, volumes }: Front,
  call: Call,
  asked: {
    readonly volumeId: string;
    readonly capabilities: readonly VolumeCapability[];
    readonly parameters: Readonly<Record<string, string>>;
    readonly context: Readonly<Record<string, string>>;
  },
): Promise<string | undefined> {
  const { volumeId, parameters, context } = asked;
  let refused: string | undefined;
  let capabilities: ReturnType<typeof parseCapabilities> = [];
  try {
    capabilities = parseCapabilities(asked.capabilities, {
      mode: 'unsupported',
      fsType: 'unsupported',
    });
  } catch (error) {
    if (!(error instanceof VolumeError) || error.reason !== 'unsupported') throw error;
    refused = error.message;
  }
  // Also when the answer is known: an unknown volume is NOT_FOUND first.
  await volumes.getVolume(call, volumeId);
  if (refused !== undefined) return refused;
  try {
    combineCapabilities(capabilities, settings.defaultFsType);
  } catch (error) {
    if (error instanceof VolumeError) return error.message;
    throw error;
  }
  return volumes.findMismatch(call, volumeId, { capabilities, parameters, context });
}
