/**
 * Masks secrets in messages for the log. A field is secret if it has the option `csi_secret` in the proto, whatever its name.
 */
import protobuf from 'protobufjs/light.js';
import { messageType, serviceType } from './codec.ts';
import type { MethodName, ServiceName } from './rpc-types.ts';

/** Replaces a secret value. A secret map is replaced as a whole, including its keys. */
export const redacted = '[redacted]';

/** Copies a message with masked secrets. Returns the same object if its type has no secret fields. */
type Redactor = (message: unknown) => unknown;

const unchanged: Redactor = (message) => message;
const redactors = new Map<protobuf.Type, Redactor>();

/** Masks every `csi_secret` field, at any depth, in a copy of a decoded message. */
export function redact(type: string | protobuf.Type, message: unknown): unknown {
  return redactorOf(typeof type === 'string' ? messageType(type) : type)(message);
}

/** Returns the redactors for the request and response of an RPC. */
export function rpcRedactors<N extends ServiceName>(
  service: N,
  rpc: MethodName<N>,
): { readonly request: Redactor; readonly response: Redactor } {
  const method = serviceType(service).methods[rpc];
  method?.resolve();
  const request = method?.resolvedRequestType;
  const response = method?.resolvedResponseType;
  if (!request || !response) throw new Error(`${service} has no ${rpc}`);
  return { request: redactorOf(request), response: redactorOf(response) };
}

function isSecret(field: protobuf.Field): boolean {
  return field.options?.['(csi_secret)'] === true;
}

/** The redactors of the fields that contain secrets, by field name. */
type Plan = ReadonlyMap<string, Redactor>;

function redactorOf(type: protobuf.Type): Redactor {
  const known = redactors.get(type);
  if (known !== undefined) return known;
  const plan = new Map<string, Redactor>();
  const redactor: Redactor = (message) => apply(plan, message);
  // Stored before the fields are visited, so that the recursion ends for a message type that contains itself.
  redactors.set(type, redactor);
  for (const field of type.fieldsArray) {
    const mask = fieldRedactor(field.resolve());
    if (mask !== unchanged) plan.set(field.name, mask);
  }
  if (plan.size > 0) return redactor;
  redactors.set(type, unchanged);
  return unchanged;
}

function fieldRedactor(field: protobuf.Field): Redactor {
  if (isSecret(field)) return (value) => (isEmpty(value) ? value : redacted);
  if (!(field.resolvedType instanceof protobuf.Type)) return unchanged;
  const inner = redactorOf(field.resolvedType);
  if (inner === unchanged) return unchanged;
  if (field.repeated) return (value) => (Array.isArray(value) ? value.map(inner) : value);
  if (!field.map) return inner;
  return (value) =>
    isObject(value)
      ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, inner(item)]))
      : value;
}

function apply(plan: Plan, message: unknown): unknown {
  if (!isObject(message)) return message;
  const copy = { ...message };
  for (const [name, mask] of plan) if (name in copy) copy[name] = mask(copy[name]);
  return copy;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Whether a field has its default value, which is not masked, so that the log shows that no secret was sent. */
function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '') return true;
  return isObject(value) && Object.keys(value).length === 0;
}
