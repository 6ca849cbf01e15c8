/** Parses the volume capabilities of requests (CSI spec, "VolumeCapability"). */
import type { VolumeCapability } from '../csi/types.ts';
import { type Reason, VolumeError } from '../errors.ts';
import { type FsType, fsTypes } from '../host/host.ts';
import {
  type AccessMode,
  accessModes,
  type Capability,
  type VolumeKind,
} from '../volumes/model.ts';

/** Access modes of the spec that need several nodes. */
const refusedModes: readonly string[] = ['MULTI_NODE_SINGLE_WRITER', 'MULTI_NODE_MULTI_WRITER'];

/** Reasons of the errors for a well-formed capability that this driver does not support. */
interface Refusals {
  /** For an access mode that needs several nodes. */
  readonly mode: Reason;
  readonly fsType: Reason;
}

const invalid: Refusals = { mode: 'invalid', fsType: 'invalid' };
/** CSI spec, "NodeStageVolume Errors" and "NodePublishVolume Errors": "Exceeds capabilities" is FAILED_PRECONDITION. */
export const nodeRefusals: Refusals = { mode: 'wrong-state', fsType: 'invalid' };

/**
 * Parses one capability. Throws `invalid` if it is missing, incomplete or unknown, and the reasons of `refusals` if it is not
 * supported.
 */
export function parseCapability(
  capability: VolumeCapability | null,
  field: string,
  refusals: Refusals = invalid,
): Capability {
  if (capability === null) throw new VolumeError('invalid', `${field} is missing`);
  const accessMode = parseMode(capability, field, refusals.mode);
  switch (capability.access_type) {
    case 'block':
      return { kind: 'block', fsType: '', mountFlags: [], accessMode };
    case 'mount': {
      const { fs_type, mount_flags, volume_mount_group } = capability.mount;
      if (volume_mount_group !== '') {
        throw new VolumeError(
          'invalid',
          `${field}.mount.volume_mount_group is set, but VOLUME_MOUNT_GROUP is not offered`,
        );
      }
      const fsType = parseFsType(fs_type, field, refusals.fsType);
      return { kind: 'mount', fsType, mountFlags: mount_flags, accessMode };
    }
    case undefined:
      throw new VolumeError('invalid', `${field} sets neither block nor mount`);
  }
}

function parseMode(capability: VolumeCapability, field: string, refused: Reason): AccessMode {
  const mode = capability.access_mode?.mode ?? 'UNKNOWN';
  const known = accessModes.find((name) => name === mode);
  if (known !== undefined) return known;
  if (typeof mode === 'string' && refusedModes.includes(mode)) {
    throw new VolumeError(
      refused,
      `${field}: access mode ${mode} needs a volume that several nodes can use, but this driver's volumes can be used on one node only; use ${accessModes.join(', ')}`,
    );
  }
  throw new VolumeError(
    'invalid',
    `${field}: access mode ${mode} is not known; use ${accessModes.join(', ')}`,
  );
}

function parseFsType(fsType: string, field: string, refused: Reason): FsType | '' {
  if (fsType === '') return '';
  const known = fsTypes.find((name) => name === fsType);
  if (known === undefined) {
    throw new VolumeError(
      refused,
      `${field}: filesystem '${fsType}' is not offered; use ${fsTypes.join(', ')}`,
    );
  }
  return known;
}

/** Parses all capabilities of a request. Throws `invalid` if there is none. */
export function parseCapabilities(
  capabilities: readonly VolumeCapability[],
  refusals?: Refusals,
): readonly Capability[] {
  if (capabilities.length === 0) {
    throw new VolumeError('invalid', 'volume_capabilities is empty; give at least one');
  }
  return capabilities.map((one, index) =>
    parseCapability(one, `volume_capabilities[${index}]`, refusals),
  );
}

/**
 * Returns the kind and filesystem of a volume with all of these capabilities. Throws `invalid` if they contradict each other.
 */
export function combineCapabilities(
  capabilities: readonly Capability[],
  defaultFsType: FsType,
): { readonly kind: VolumeKind; readonly fsType: FsType | null } {
  const kinds = new Set(capabilities.map(({ kind }) => kind));
  if (kinds.size > 1) {
    throw new VolumeError(
      'invalid',
      'volume_capabilities request both block and mount; a volume can be only one of them',
    );
  }
  if (kinds.has('block')) return { kind: 'block', fsType: null };
  const [fsType = defaultFsType, ...others] = new Set(
    capabilities.flatMap((one) => (one.fsType === '' ? [] : [one.fsType])),
  );
  if (others.length > 0) {
    throw new VolumeError(
      'invalid',
      `volume_capabilities request ${[fsType, ...others].join(' and ')}; a volume has only one filesystem`,
    );
  }
  return { kind: 'mount', fsType };
}

/** Whether no capability specifies a filesystem. A copy then has the filesystem of its source. */
export function isFsTypeUnset(capabilities: readonly Capability[]): boolean {
  return capabilities.every(({ fsType }) => fsType === '');
}
