/** The values that options are made of, each parsed once from text. Messages say what would be right; the caller names the option. */
import { normalize } from 'node:path';
import * as v from 'valibot';
import { messageOf } from '../errors.ts';
import { parseBytes, parseDuration } from '../units.ts';
import { type PoolSettings, poolDefaults, poolNameForm } from '../volumes/pools/pool-settings.ts';

/** A schema over the text of one option: what `parse` throws becomes the issue. */
export function text<T>(parse: (text: string) => T): v.GenericSchema<string, T> {
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

/** An absolute path in its shortest form, without control characters. */
export function absolutePath(value: string): string {
  if (!value.startsWith('/') || /\p{Cc}/u.test(value)) {
    throw new Error(`'${value}' is not an absolute path; write for example /var/lib/loopcsi`);
  }
  const normal = normalize(value);
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal;
}

/** Bytes of `sun_path` of a unix socket's address, less the closing NUL (unix(7)) and the `~` it is first bound with. */
const longestSocketPath = 106;

/** The path of `unix://PATH`; a bare absolute path is taken too. */
export function socketPath(value: string): string {
  const place = value.replace(/^unix:(?:\/\/)?(?=\/)/, '');
  if (!place.startsWith('/')) {
    throw new Error(`'${value}' is no unix socket; write for example unix:///run/loopcsi/csi.sock`);
  }
  const path = absolutePath(place);
  if (Buffer.byteLength(path) > longestSocketPath) {
    throw new Error(
      `'${path}' has ${Buffer.byteLength(path)} bytes, and a socket's may have ${longestSocketPath}; choose a shorter path`,
    );
  }
  return path;
}

const dnsLabel = '[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?';
const driverNameForm = new RegExp(`^${dnsLabel}(?:\\.${dnsLabel})*$`);

/** CSI spec, "GetPluginInfo": at most 63 characters, a domain name. */
export function driverName(value: string): string {
  if (value.length > 63 || !driverNameForm.test(value)) {
    throw new Error(
      `'${value}' is not a driver name; write a lower-case domain name of at most 63 characters, for example loopcsi.io`,
    );
  }
  return value;
}

/** CSI spec, "NodeGetInfo": at most 256 bytes. */
export function nodeId(value: string): string {
  if (value === '' || Buffer.byteLength(value) > 256 || /\p{Cc}/u.test(value)) {
    throw new Error('a node id has 1 to 256 bytes and no control characters');
  }
  return value;
}

export const bytes = (value: string): bigint => withoutName(() => parseBytes(value, ''));
export const duration = (value: string): number => withoutName(() => parseDuration(value, ''));

/** The option is named by whoever reports the problem. */
function withoutName<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new Error(messageOf(error).replace(/^: /, ''), { cause: error });
  }
}

export function positiveInteger(value: string): number {
  if (!/^[1-9]\d{0,8}$/.test(value)) throw new Error(`'${value}' is not a whole number above 0`);
  return Number(value);
}

export interface HttpAddress {
  readonly host: string;
  readonly port: number;
}

/** `HOST:PORT`, `[IPV6]:PORT` or `:PORT` for all addresses; `off` is undefined. */
export function httpAddress(value: string): HttpAddress | undefined {
  if (value === 'off') return undefined;
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]*)):(\d{1,5})$/.exec(value);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new Error(`'${value}' is not an address; write HOST:PORT, [IPV6]:PORT, :PORT or off`);
  }
  return { host: match[1] ?? (match[2] || '::'), port };
}

const poolKeys =
  'create, reserve=SIZE|PERCENT%, overcommit=FACTOR, mountpoint=required, guard=on|off, force, reflink=SIZE';

/** `NAME=DIR[,create,reserve=…,overcommit=…,mountpoint=required,guard=on|off,force,reflink=SIZE]`. */
export function pool(value: string): PoolSettings {
  const [head = '', ...words] = value.split(',');
  const equals = head.indexOf('=');
  const name = head.slice(0, Math.max(equals, 0));
  if (equals < 1 || !poolNameForm.test(name)) {
    throw new Error(
      `'${value}' is not a pool; write NAME=DIR[,${poolKeys.replaceAll(', ', ',')}], the name in lower-case letters, digits and '-'`,
    );
  }
  let settings: PoolSettings = {
    name,
    path: absolutePath(head.slice(equals + 1)),
    ...poolDefaults,
  };
  for (const word of words) settings = { ...settings, ...poolWord(word, name) };
  return settings;
}

/** `NAME,NAME,…`. */
export function poolNames(value: string): readonly string[] {
  const names = value.split(',');
  const wrong = names.find((name) => !poolNameForm.test(name));
  if (wrong === undefined) return names;
  throw new Error(
    `'${wrong}' is not the name of a pool; write names in lower-case letters, digits and '-', with commas between`,
  );
}

function poolWord(word: string, name: string): Partial<PoolSettings> {
  const equals = word.indexOf('=');
  const key = equals < 0 ? word : word.slice(0, equals);
  const value = equals < 0 ? undefined : word.slice(equals + 1);
  if (value === undefined) {
    if (key === 'create') return { create: true };
    if (key === 'force') return { force: true };
  } else {
    if (key === 'reserve') return { reserve: reserve(value) };
    if (key === 'overcommit') return { overcommitPerMille: overcommit(value) };
    if (key === 'guard' && (value === 'on' || value === 'off')) return { guard: value === 'on' };
    if (key === 'mountpoint' && value === 'required') return { mountpointRequired: true };
    if (key === 'reflink') return { reflinkBytes: bytes(value) };
  }
  throw new Error(`pool '${name}': '${word}' is not understood; known are ${poolKeys}`);
}

function reserve(value: string): PoolSettings['reserve'] {
  const percent = /^(\d{1,2})(?:\.(\d))?%$/.exec(value);
  if (percent === null && value.endsWith('%')) {
    throw new Error(`reserve=${value} is not a share of the pool; write 0% to 99.9%`);
  }
  if (percent === null) return { bytes: bytes(value) };
  return { perMille: Number(percent[1]) * 10 + Number(percent[2] ?? 0) };
}

function overcommit(value: string): number {
  const factor = /^\d{1,3}(?:\.\d{1,3})?$/.test(value) ? Number(value) : 0;
  if (factor < 1) {
    throw new Error(`overcommit=${value} is not a factor of 1.0 or more; write for example 1.5`);
  }
  return Math.round(factor * 1000);
}
