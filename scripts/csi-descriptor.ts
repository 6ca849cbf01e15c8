/** Generates the JSON descriptor of a proto package, which loads several times faster than the proto file is parsed. */
import protobuf from 'protobufjs';
import { messagesOf, type ProtoSource, packageOf } from './csi-proto.ts';
import { wellKnownTypesOf } from './csi-types.ts';

const lineWidth = 110;

/** Prints each value that fits on one line, so that a changed field shows up in a diff as one changed line. */
function print(value: unknown, indent: string): string {
  const line = printLine(value);
  if (typeof value !== 'object' || value === null || indent.length + line.length <= lineWidth) {
    return line;
  }
  const deeper = `${indent}  `;
  if (Array.isArray(value)) {
    return `[\n${value.map((item) => `${deeper}${print(item, deeper)},\n`).join('')}${indent}]`;
  }
  const entries = Object.entries(value).map(
    ([key, item]) => `${deeper}${printKey(key)}: ${print(item, deeper)},\n`,
  );
  return `{\n${entries.join('')}${indent}}`;
}

function printLine(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value !== 'object' || value === null) return String(value);
  if (Array.isArray(value)) return `[${value.map(printLine).join(', ')}]`;
  const entries = Object.entries(value).map(
    ([key, item]) => `${printKey(key)}: ${printLine(item)}`,
  );
  return entries.length === 0 ? '{}' : `{ ${entries.join(', ')} }`;
}

function printKey(key: string): string {
  return /^[A-Za-z_]\w*$/.test(key) ? key : `'${key}'`;
}

/** Removes `parsedOptions`, which repeats `options` in another form. */
function withoutParsedOptions(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutParsedOptions);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, item]) => key !== 'parsedOptions' && item !== undefined)
      .map(([key, item]) => [key, withoutParsedOptions(item)]),
  );
}

/**
 * Returns a namespace with the package, the well-known types that it uses, and the option messages of descriptor.proto. The option
 * messages have no fields, because the package only extends them.
 */
export function descriptorOf(root: protobuf.Root, source: ProtoSource): protobuf.INamespace {
  const namespace = packageOf(root, source.packageName);
  const google: Record<string, protobuf.AnyNestedObject> = {};
  for (const object of namespace.nestedArray) {
    if (object instanceof protobuf.Field && object.extend !== undefined) {
      const name = object.extend.slice(object.extend.lastIndexOf('.') + 1);
      google[name] = { fields: {}, extensions: [[1000, 536870911]] };
    }
  }
  for (const type of wellKnownTypesOf(messagesOf(namespace))) google[type.name] = type.toJSON();

  let nested: Record<string, protobuf.AnyNestedObject> = namespace.toJSON().nested ?? {};
  for (const name of source.packageName.split('.').toReversed()) nested = { [name]: { nested } };
  if (Object.keys(google).length > 0)
    nested['google'] = { nested: { protobuf: { nested: google } } };
  return { nested };
}

export function descriptorText(root: protobuf.Root, source: ProtoSource): string {
  return [
    `// Generated from ${source.proto} by scripts/generate-csi.ts. Do not edit: change the proto, then \`npm run generate\`.`,
    '',
    `/** ${source.packageName} as a protobufjs INamespace. The type is object, because INamespace lacks the keys of map fields. */`,
    `export const descriptor: object = ${print(withoutParsedOptions(descriptorOf(root, source)), '')};`,
    '',
  ].join('\n');
}
