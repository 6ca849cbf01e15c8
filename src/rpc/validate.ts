/** Parses fields of requests. Each function returns the domain's input or throws `invalid`, naming the field. */
import type { CapacityRange as CsiCapacityRange, VolumeContentSource } from '../csi/types.ts';
import { VolumeError } from '../errors.ts';
import type { CapacityRange } from '../volumes/capacity.ts';
import type { VolumeSource } from '../volumes/model.ts';

/** NAME_MAX of Linux. */
const maxNameBytes = 255;

export function requireText(value: string, field: string): string {
  if (value === '') throw new VolumeError('invalid', `${field} is missing`);
  return value;
}

/** Requires an absolute, normalised path, because it is used as given and never resolved. */
export function requirePath(value: string, field: string): string {
  requireText(value, field);
  if (value === '/') {
    throw new VolumeError(
      'invalid',
      `${field} '/' is the root directory; give a directory below it`,
    );
  }
  const [root, ...names] = value.split('/');
  const fits =
    root === '' &&
    names.every(
      (name) =>
        name !== '' && name !== '.' && name !== '..' && Buffer.byteLength(name) <= maxNameBytes,
    );
  if (!fits || value.includes('\0')) {
    throw new VolumeError(
      'invalid',
      `${field} '${shortened(value)}' is not a normalised absolute path; write it without '.', '..' and empty parts, each part with at most ${maxNameBytes} bytes`,
    );
  }
  return value;
}

/**
 * Requires the path of an existing mount. A relative path is `not-found` instead of `invalid`, as csi-sanity requires: no
 * volume can be mounted there. An absolute path must be normalised.
 */
export function requireMountedPath(value: string, field: string): string {
  requireText(value, field);
  if (value.startsWith('/')) return requirePath(value, field);
  throw new VolumeError(
    'not-found',
    `no volume is mounted at ${field} '${shortened(value)}'; give an absolute path`,
  );
}

/** Returns '' if the request has no path. */
export function optionalPath(value: string, field: string): string {
  return value === '' ? '' : requirePath(value, field);
}

/** An absent range has no limits. Throws `out-of-range` if limit_bytes is below required_bytes. */
export function parseRange(range: CsiCapacityRange | null): CapacityRange {
  const requiredBytes = range?.required_bytes ?? 0n;
  const limitBytes = range?.limit_bytes ?? 0n;
  if (requiredBytes < 0n || limitBytes < 0n) {
    throw new VolumeError(
      'invalid',
      `capacity_range: required_bytes ${requiredBytes} and limit_bytes ${limitBytes} must not be negative`,
    );
  }
  if (limitBytes > 0n && limitBytes < requiredBytes) {
    throw new VolumeError(
      'out-of-range',
      `capacity_range: limit_bytes ${limitBytes} is below required_bytes ${requiredBytes}`,
    );
  }
  return { requiredBytes, limitBytes };
}

/** Parses the range of an expansion, which must specify a size. */
export function requireRange(range: CsiCapacityRange | null): CapacityRange {
  const parsed = parseRange(range);
  if (parsed.requiredBytes === 0n && parsed.limitBytes === 0n) {
    throw new VolumeError('invalid', 'capacity_range is missing; give the new size of the volume');
  }
  return parsed;
}

export function parsePage(request: { max_entries: number; starting_token: string }): {
  maxEntries: number;
  startingToken: string;
} {
  if (request.max_entries < 0) {
    throw new VolumeError(
      'invalid',
      `max_entries ${request.max_entries} must not be negative; 0 means no limit`,
    );
  }
  return { maxEntries: request.max_entries, startingToken: request.starting_token };
}

/** Throws `invalid` for a source of an unknown kind. */
export function parseSource(source: VolumeContentSource | null): VolumeSource | null {
  if (source === null) return null;
  switch (source.type) {
    case 'snapshot':
      return {
        kind: 'snapshot',
        id: requireText(source.snapshot.snapshot_id, 'volume_content_source.snapshot.snapshot_id'),
      };
    case 'volume':
      return {
        kind: 'volume',
        id: requireText(source.volume.volume_id, 'volume_content_source.volume.volume_id'),
      };
    case undefined:
      throw new VolumeError(
        'invalid',
        'volume_content_source names neither a snapshot nor a volume',
      );
  }
}

function shortened(value: string): string {
  return value.length <= 200 ? value : `${value.slice(0, 200)}…`;
}
