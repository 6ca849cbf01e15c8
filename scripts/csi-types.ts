/** Generates TypeScript types for the messages, enums and services of a proto package, in the form that the codec uses. */
import protobuf from 'protobufjs';
import { enumsOf, messagesOf, type ProtoSource, packageOf, servicesOf } from './csi-proto.ts';

const scalars: Readonly<Record<string, string>> = {
  double: 'number',
  float: 'number',
  int32: 'number',
  uint32: 'number',
  sint32: 'number',
  fixed32: 'number',
  sfixed32: 'number',
  int64: 'bigint',
  uint64: 'bigint',
  sint64: 'bigint',
  fixed64: 'bigint',
  sfixed64: 'bigint',
  bool: 'boolean',
  string: 'string',
  bytes: 'Buffer',
};

/** Sentences that the doc comment gets for an option of the proto. */
const remarks: Readonly<Record<string, string>> = {
  '(csi_secret)': 'Secret: masked in every log.',
  '(alpha_enum)': 'Alpha.',
  '(alpha_enum_value)': 'Alpha.',
  '(alpha_field)': 'Alpha.',
  '(alpha_message)': 'Alpha.',
  '(alpha_method)': 'Alpha.',
  '(alpha_service)': 'Alpha.',
};

const wellKnown: Readonly<Record<string, string>> = {
  Timestamp: 'Seconds since the Unix epoch, and nanoseconds within that second.',
  BoolValue: 'A boolean that can be absent.',
  Int64Value: 'An integer that can be absent.',
};

type Options = Readonly<Record<string, unknown>>;

function docComment(
  comment: string | null | undefined,
  options: Options | undefined,
  indent = '',
): string {
  const notes = Object.keys(options ?? {}).flatMap((option) => remarks[option] ?? []);
  const text = [comment?.replaceAll(/\s+/g, ' ').replaceAll('*/', '*\\/'), ...notes]
    .filter((part) => part !== undefined && part !== '')
    .join(' ');
  return text === '' ? '' : `${indent}/** ${text} */\n`;
}

/** `csi.v1.PluginCapability.Service.Type` becomes `PluginCapabilityServiceType`. */
function typeName(object: protobuf.ReflectionObject): string {
  const parent = object.parent;
  return parent instanceof protobuf.Type ? typeName(parent) + object.name : object.name;
}

function valueType(field: protobuf.Field): string {
  if (field.resolvedType instanceof protobuf.Enum) {
    return `${typeName(field.resolvedType)} | UnknownEnumValue`;
  }
  if (field.resolvedType !== null) return typeName(field.resolvedType);
  const scalar = scalars[field.type];
  if (scalar === undefined)
    throw new Error(`${field.fullName}: no TypeScript type for ${field.type}`);
  return scalar;
}

function fieldType(field: protobuf.Field): string {
  const value = valueType(field);
  if (field.map) return `Readonly<Record<string, ${value}>>`;
  if (field.repeated) return `readonly ${value.includes('|') ? `(${value})` : value}[]`;
  return field.resolvedType instanceof protobuf.Type && field.partOf === null
    ? `${value} | null`
    : value;
}

function propertyText(field: protobuf.Field, indent: string): string {
  return `${docComment(field.comment, field.options, indent)}${indent}readonly ${field.name}: ${fieldType(field)};\n`;
}

/** One variant for each member of the oneof, and one for an unset oneof. */
function oneofText(oneof: protobuf.OneOf): string {
  const others = (chosen: protobuf.Field | undefined): string =>
    oneof.fieldsArray
      .filter((field) => field !== chosen)
      .map((field) => `      readonly ${field.name}?: never;\n`)
      .join('');
  const variants = oneof.fieldsArray.map(
    (field) =>
      `  | {\n      readonly ${oneof.name}: '${field.name}';\n${propertyText(field, '      ')}${others(field)}    }\n`,
  );
  const none = `  | {\n      readonly ${oneof.name}?: undefined;\n${others(undefined)}    }\n`;
  return `(\n${variants.join('')}${none})`;
}

function messageText(type: protobuf.Type): string {
  const head = docComment(type.comment ?? wellKnown[type.name], type.options);
  const plain = type.fieldsArray
    .filter((field) => field.partOf === null)
    .map((field) => propertyText(field, '  '))
    .join('');
  const unions = type.oneofsArray.map(oneofText);
  if (unions.length > 0) {
    const parts = plain === '' ? unions : [`{\n${plain}}`, ...unions];
    return `${head}export type ${typeName(type)} = ${parts.join(' & ')};\n`;
  }
  if (plain === '')
    return `${head}export type ${typeName(type)} = Readonly<Record<string, never>>;\n`;
  return `${head}export interface ${typeName(type)} {\n${plain}}\n`;
}

function enumText(type: protobuf.Enum): string {
  const values = Object.keys(type.values).map(
    (name) => `${docComment(type.comments[name], type.valuesOptions?.[name], '  ')}  | '${name}'`,
  );
  return `${docComment(type.comment, type.options)}export type ${typeName(type)} =\n${values.join('\n')};\n`;
}

function serviceText(type: protobuf.Service): string {
  const methods = type.methodsArray.map((method) => {
    method.resolve();
    const { resolvedRequestType: request, resolvedResponseType: response } = method;
    if (request === null || response === null) {
      throw new Error(`${method.fullName}: its messages are not defined`);
    }
    const kind = kindOf(method);
    const types = `${typeName(request)}, ${typeName(response)}`;
    return `${docComment(method.comment, method.options, '  ')}  readonly ${method.name}: ${kind}<${types}>;\n`;
  });
  return `${docComment(type.comment, type.options)}export interface ${type.name}Service {\n${methods.join('')}}\n`;
}

function kindOf({
  fullName,
  requestStream,
  responseStream,
}: protobuf.Method): 'ClientStream' | 'ServerStream' | 'Unary' {
  if (requestStream !== true) return responseStream === true ? 'ServerStream' : 'Unary';
  if (responseStream !== true) return 'ClientStream';
  throw new Error(`${fullName}: streams in both directions are not supported`);
}

/** The google.protobuf types of these messages' fields. */
export function wellKnownTypesOf(messages: readonly protobuf.Type[]): readonly protobuf.Type[] {
  const found = new Set<protobuf.Type>();
  for (const { resolvedType } of messages.flatMap((type) => type.fieldsArray)) {
    if (resolvedType instanceof protobuf.Type && resolvedType.fullName.startsWith('.google.')) {
      found.add(resolvedType);
    }
  }
  return [...found].toSorted((a, b) => a.name.localeCompare(b.name));
}

function checkNames(objects: readonly protobuf.ReflectionObject[]): void {
  const seen = new Map<string, string>();
  for (const object of objects) {
    const name = object instanceof protobuf.Service ? `${object.name}Service` : typeName(object);
    const other = seen.get(name);
    if (other !== undefined)
      throw new Error(`${other} and ${object.fullName} would both be named ${name}`);
    seen.set(name, object.fullName);
  }
}

/** Throws when two proto names would become the same TypeScript name. */
export function typesText(root: protobuf.Root, source: ProtoSource): string {
  const namespace = packageOf(root, source.packageName);
  const messages = messagesOf(namespace);
  const enums = enumsOf(namespace);
  const services = servicesOf(namespace);
  const known = wellKnownTypesOf(messages);
  checkNames([...services, ...enums, ...messages, ...known]);

  const kinds = (['ClientStream', 'ServerStream', 'Unary'] as const).filter((kind) =>
    services.some((type) => type.methodsArray.some((method) => kindOf(method) === kind)),
  );
  const listed = services.map(
    (type) => `  readonly '${type.fullName.slice(1)}': ${type.name}Service;\n`,
  );
  const parts = [
    `// Generated from ${source.proto} by scripts/generate-csi.ts. Do not edit: change the proto, then \`npm run generate\`.\n`,
    `import type { ${kinds.join(', ')} } from './rpc-kinds.ts';\n`,
    ...(enums.length > 0
      ? [
          `/** Number of an enum value that this version does not know, from a newer caller. Reject it before switching on the name. */\nexport type UnknownEnumValue = number;\n`,
        ]
      : []),
    `/** The services of ${source.packageName}, by their full names. */\nexport interface ${source.services} {\n${listed.join('')}}\n`,
    ...services.map(serviceText),
    ...enums.map(enumText),
    ...[...messages, ...known].map(messageText),
  ];
  return parts.join('\n');
}
