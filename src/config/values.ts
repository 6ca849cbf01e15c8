/**
 * Parsers for the texts of options. Their errors say which values are valid; the caller adds the name of the option.
 */
import { normalize } from 'node:path';
import * as v from 'valibot';
import { messageOf } from '../errors.ts';
import { poolNamePattern } from '../ids.ts';
import { parseBytes } from '../units.ts';
import { type PoolSettings, poolDefaults } from '../volumes/pool/settings.ts';

/** Creates a schema from a parser. The message of an error that `parse` throws becomes the issue. */
export function textParsedBy<T>(parse: (text: string) => T): v.GenericSchema<string, T> {
  return v.pipe(
    v.string(),
    v.rawTransform(({ dataset, addIssue, NEVER }): T => {
      try {
        return parse(dataset.value);
      } catch (error) {
        addIssue({ message: messageOf(error) });
        return NEVER;
      }
    }),
  );
}

/** Parses an absolute path without control characters and normalises it. */
export function parseAbsolutePath(value: string): string {
  if (!value.startsWith('/') || /\p{Cc}/u.test(value)) {
    throw new Error(`'${value}' is not an absolute path; use a path such as /var/lib/loopcsi`);
  }
  const normal = normalize(value);
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal;
}

/** The size of `sun_path` (unix(7)) minus the terminating NUL and the `~` of the temporary name (../unix-socket.ts). */
const maxSocketPathBytes = 106;

/** Parses `unix://PATH` or an absolute path. */
export function parseSocketPath(value: string): string {
  const given = value.replace(/^unix:(?:\/\/)?(?=\/)/, '');
  if (!given.startsWith('/')) {
    throw new Error(
      `'${value}' is not a unix socket; use a value such as unix:///run/loopcsi/csi.sock`,
    );
  }
  const path = parseAbsolutePath(given);
  if (Buffer.byteLength(path) > maxSocketPathBytes) {
    throw new Error(
      `'${path}' has ${Buffer.byteLength(path)} bytes, but a socket path may have at most ${maxSocketPathBytes}; choose a shorter path`,
    );
  }
  return path;
}

const dnsLabel = '[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?';
const driverNamePattern = new RegExp(`^${dnsLabel}(?:\\.${dnsLabel})*$`);

/** Parses a driver name. CSI spec, "GetPluginInfo": a domain name of at most 63 characters. */
export function parseDriverName(value: string): string {
  if (value.length > 63 || !driverNamePattern.test(value)) {
    throw new Error(
      `'${value}' is not a driver name; use a lower-case domain name of at most 63 characters, for example loopcsi.io`,
    );
  }
  return value;
}

/** Parses a node id. CSI spec, "NodeGetInfo": at most 256 bytes. */
export function parseNodeId(value: string): string {
  if (value === '' || Buffer.byteLength(value) > 256 || /\p{Cc}/u.test(value)) {
    throw new Error('the value is not a node id; use 1 to 256 bytes without control characters');
  }
  return value;
}

export function parseCount(value: string): number {
  if (!/^\d{1,4}$/.test(value))
    throw new Error(`'${value}' is not a number from 0 to 9999; use a value such as 2`);
  return Number(value);
}

export function parsePositiveInteger(value: string): number {
  if (!/^[1-9]\d{0,8}$/.test(value))
    throw new Error(`'${value}' is not a whole number above 0; use a value such as 512`);
  return Number(value);
}

interface Address {
  readonly host: string;
  readonly port: number;
}

/** Parses bytes per second. */
export function parseRate(value: string): bigint {
  const bytes = parseBytes(value);
  if (bytes > 0n) return bytes;
  throw new Error('must be greater than 0');
}

/** Parses `HOST:PORT`, `[IPV6]:PORT`, or `:PORT` for all addresses, or `off`, for which it returns undefined. */
export function parseHttpAddress(value: string): Address | undefined {
  return value === 'off' ? undefined : parseAddress(value, ' or off');
}

/** Parses `HOST:PORT`, `[IPV6]:PORT`, or `:PORT` for all addresses. `others` names further values in the error. */
export function parseAddress(value: string, others = ''): Address {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]*)):(\d{1,5})$/.exec(value);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new Error(`'${value}' is not an address; use HOST:PORT, [IPV6]:PORT, :PORT${others}`);
  }
  return { host: match[1] ?? (match[2] || '::'), port };
}

const poolOptions =
  'create, reserve=SIZE|PERCENT%, overcommit=FACTOR, mountpoint=required, guard=on|off, force, reflink=SIZE';

/** Parses `NAME=DIR[,create,reserve=…,overcommit=…,mountpoint=required,guard=on|off,force,reflink=SIZE]`. */
export function parsePool(value: string): PoolSettings {
  const [head = '', ...options] = value.split(',');
  const equals = head.indexOf('=');
  const name = head.slice(0, Math.max(equals, 0));
  if (equals < 1 || !poolNamePattern.test(name)) {
    throw new Error(
      `'${value}' is not a pool; use NAME=DIR[,${poolOptions.replaceAll(', ', ',')}], with a name of lower-case letters, digits and '-'`,
    );
  }
  let settings: PoolSettings = {
    name,
    path: parseAbsolutePath(head.slice(equals + 1)),
    ...poolDefaults,
  };
  for (const option of options) settings = { ...settings, ...parsePoolOption(option, name) };
  return settings;
}

/** Parses `NAME,NAME,…`. */
export function parsePoolNames(value: string): readonly string[] {
  const names = value.split(',');
  const wrong = names.find((name) => !poolNamePattern.test(name));
  if (wrong === undefined) return names;
  throw new Error(
    `'${wrong}' is not a pool name; use names of lower-case letters, digits and '-', separated by commas`,
  );
}

function parsePoolOption(option: string, name: string): Partial<PoolSettings> {
  const equals = option.indexOf('=');
  const key = equals < 0 ? option : option.slice(0, equals);
  const value = equals < 0 ? undefined : option.slice(equals + 1);
  if (value === undefined) {
    if (key === 'create') return { create: true };
    if (key === 'force') return { force: true };
  } else {
    if (key === 'reserve') return { reserve: parseReserve(value) };
    if (key === 'overcommit') return { overcommitPerMille: parseOvercommit(value) };
    if (key === 'guard' && (value === 'on' || value === 'off')) return { guard: value === 'on' };
    if (key === 'mountpoint' && value === 'required') return { mountpointRequired: true };
    if (key === 'reflink') return { reflinkBytes: parseBytes(value) };
  }
  throw new Error(`pool '${name}': option '${option}' is not known; known options: ${poolOptions}`);
}

function parseReserve(value: string): PoolSettings['reserve'] {
  const percent = /^(\d{1,2})(?:\.(\d))?%$/.exec(value);
  if (percent === null && value.endsWith('%')) {
    throw new Error(`reserve=${value} is not a percentage of the pool; use 0% to 99.9%`);
  }
  if (percent === null) return { bytes: parseBytes(value) };
  return { perMille: Number(percent[1]) * 10 + Number(percent[2] ?? 0) };
}

function parseOvercommit(value: string): number {
  const factor = /^\d{1,3}(?:\.\d{1,3})?$/.test(value) ? Number(value) : 0;
  if (factor < 1) {
    throw new Error(
      `overcommit=${value} is not a factor of 1.0 or more; use a value such as overcommit=1.5`,
    );
  }
  return Math.round(factor * 1000);
}
