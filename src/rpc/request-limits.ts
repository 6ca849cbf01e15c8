/**
 * Checks requests for size limits and forbidden characters (CSI spec, "Size Limits"). The checks are derived from the message
 * types.
 */
import type protobuf from 'protobufjs/light.js';
import { messageType } from '../csi/codec.ts';
import { VolumeError } from '../errors.ts';

const stringBytes = 128;
const mapBytes = 4096;
const mountFlagsBytes = 4096;
/** PATH_MAX without the terminating NUL. */
const pathBytes = 4095;

/** Limits of the string fields that may be longer than `stringBytes`. */
const longStringBytes: Readonly<Record<string, number>> = {
  node_id: 256,
  staging_target_path: pathBytes,
  target_path: pathBytes,
  volume_path: pathBytes,
  volume_publish_path: pathBytes,
};

/** Characters that no string may contain (CSI spec, CreateVolumeRequest.name): all control characters except tab, newline and CR. */
const forbidden = /(?![\t\n\r])\p{Cc}/u;

/** Throws `invalid`, naming the field, if the value exceeds a limit. */
type Check = (value: unknown, field: string) => void;

const checks = new Map<protobuf.Type, Check>();

/** Returns the check for a request type. */
export function limitCheckFor(typeName: string): (request: unknown) => void {
  const type = messageType(typeName);
  return (request) => {
    messageCheck(type)(request, '');
  };
}

function messageCheck(type: protobuf.Type): Check {
  const known = checks.get(type);
  if (known !== undefined) return known;
  const fields: (readonly [name: string, check: Check])[] = [];
  const check: Check = (message, prefix) => {
    if (!isObject(message)) return;
    for (const [name, checkField] of fields) checkField(message[name], `${prefix}${name}`);
  };
  // Stored before the fields are visited, so that the recursion ends for a message type that contains itself.
  checks.set(type, check);
  for (const field of type.fieldsArray) {
    const own = fieldCheck(field.resolve());
    if (own !== undefined) fields.push([field.name, own]);
  }
  return check;
}

function fieldCheck(field: protobuf.Field): Check | undefined {
  if (field.map) return checkMap;
  if (field.name === 'mount_flags') return checkMountFlags;
  const one = field.type === 'string' ? stringCheck(field.name) : nestedCheck(field);
  if (one === undefined || !field.repeated) return one;
  return (values, name) => {
    if (!Array.isArray(values)) return;
    for (const [index, value] of values.entries()) one(value, `${name}[${index}]`);
  };
}

function nestedCheck(field: protobuf.Field): Check | undefined {
  const type = field.resolvedType;
  // A message type has fields, an enum does not.
  if (type === null || !('fieldsArray' in type)) return undefined;
  const nested = messageCheck(type);
  return (value, name) => {
    nested(value, `${name}.`);
  };
}

function stringCheck(fieldName: string): Check {
  const limit = longStringBytes[fieldName] ?? stringBytes;
  return (value, name) => {
    if (typeof value !== 'string') return;
    requireWithin(Buffer.byteLength(value), limit, name);
    requireNoControls(value, name);
  };
}

function checkMap(value: unknown, name: string): void {
  if (!isObject(value)) return;
  let bytes = 0;
  for (const [key, item] of Object.entries(value)) {
    bytes += Buffer.byteLength(key) + (typeof item === 'string' ? Buffer.byteLength(item) : 0);
  }
  requireWithin(bytes, mapBytes, name);
}

function checkMountFlags(value: unknown, name: string): void {
  if (!Array.isArray(value)) return;
  const flags = value.filter((flag) => typeof flag === 'string');
  requireWithin(
    flags.reduce((sum, flag) => sum + Buffer.byteLength(flag), 0),
    mountFlagsBytes,
    name,
  );
  for (const flag of flags) requireNoControls(flag, name);
}

function requireWithin(bytes: number, limit: number, name: string): void {
  if (bytes <= limit) return;
  throw new VolumeError('invalid', `${name} has ${bytes} bytes; CSI allows at most ${limit}`);
}

function requireNoControls(text: string, name: string): void {
  if (!forbidden.test(text)) return;
  throw new VolumeError('invalid', `${name} contains a control character, which CSI forbids`);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
