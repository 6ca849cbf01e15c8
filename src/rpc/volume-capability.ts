/** Volume capabilities of requests (CSI spec, "VolumeCapability") as the domain's. */
import type { VolumeCapability } from '../csi/types.ts';
import { type Reason, VolumeError } from '../errors.ts';
import { type FsType, fsTypes } from '../host/host.ts';
import {
  type AccessMode,
  accessModes,
  type Capability,
  type VolumeKind,
} from '../volumes/model.ts';

/** Modes of the spec that a volume of one node cannot serve. */
const refusedModes: readonly string[] = ['MULTI_NODE_SINGLE_WRITER', 'MULTI_NODE_MULTI_WRITER'];

/** With which reason a capability is refused that is well formed, but not one this driver has. */
export interface Refusals {
  /** The access mode needs a volume on many nodes. */
  readonly mode: Reason;
  readonly fsType: Reason;
}

const invalid: Refusals = { mode: 'invalid', fsType: 'invalid' };
/** CSI spec, "NodeStageVolume Errors" and "NodePublishVolume Errors": exceeds capabilities. */
export const onNode: Refusals = { mode: 'wrong-state', fsType: 'invalid' };

/** One capability. Throws `invalid` when it is missing, half or unknown, and as `refusals` say. */
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
      throw new VolumeError('invalid', `${field} says neither block nor mount`);
  }
}

function parseMode(capability: VolumeCapability, field: string, refused: Reason): AccessMode {
  const mode = capability.access_mode?.mode ?? 'UNKNOWN';
  const known = accessModes.find((name) => name === mode);
  if (known !== undefined) return known;
  if (typeof mode === 'string' && refusedModes.includes(mode)) {
    throw new VolumeError(
      refused,
      `${field}: access mode ${mode} needs a volume on many nodes, and this one lives on one; use ${accessModes.join(', ')}`,
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

/** All capabilities of a request, at least one. */
export function parseCapabilities(
  capabilities: readonly VolumeCapability[],
  refusals?: Refusals,
): readonly Capability[] {
  if (capabilities.length === 0) {
    throw new VolumeError('invalid', 'volume_capabilities is empty: say how the volume is used');
  }
  return capabilities.map((one, index) =>
    parseCapability(one, `volume_capabilities[${index}]`, refusals),
  );
}

/** What one volume must be so that all capabilities hold. Throws `invalid` when none could. */
export function combineCapabilities(
  capabilities: readonly Capability[],
  defaultFsType: FsType,
): { readonly kind: VolumeKind; readonly fsType: FsType | null } {
  const kinds = new Set(capabilities.map(({ kind }) => kind));
  if (kinds.size > 1) {
    throw new VolumeError(
      'invalid',
      'volume_capabilities ask for block and for mount; one volume is either',
    );
  }
  if (kinds.has('block')) return { kind: 'block', fsType: null };
  const [fsType = defaultFsType, ...others] = new Set(
    capabilities.flatMap((one) => (one.fsType === '' ? [] : [one.fsType])),
  );
  if (others.length > 0) {
    throw new VolumeError(
      'invalid',
      `volume_capabilities ask for ${[fsType, ...others].join(' and ')}; one volume has one filesystem`,
    );
  }
  return { kind: 'mount', fsType };
}

/** No capability names a filesystem: one made from a source has the source's. */
export function isFsTypeOpen(capabilities: readonly Capability[]): boolean {
  return capabilities.every(({ fsType }) => fsType === '');
}
