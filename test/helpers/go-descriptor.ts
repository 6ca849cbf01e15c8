/** Reads the descriptor that protoc embedded in a generated Go file: the published interface, without another parser. */
import type protobuf from 'protobufjs';
import { type Facts, optionsText, reservedText } from './proto-facts.ts';

interface Options {
  readonly [name: string]: unknown;
}

interface FieldProto {
  readonly name: string;
  readonly number: number;
  readonly label: string;
  readonly type: string;
  readonly type_name?: string;
  readonly extendee?: string;
  readonly oneof_index?: number;
  readonly options?: Options;
}

/** The end of a reserved range is exclusive in messages and inclusive in enums. */
interface Range {
  readonly start: number;
  readonly end: number;
}

interface EnumProto {
  readonly name: string;
  readonly value?: readonly {
    readonly name: string;
    readonly number: number;
    readonly options?: Options;
  }[];
  readonly reserved_range?: readonly Range[];
  readonly options?: Options;
}

interface MessageProto {
  readonly name: string;
  readonly field?: readonly FieldProto[];
  readonly nested_type?: readonly MessageProto[];
  readonly enum_type?: readonly EnumProto[];
  readonly oneof_decl?: readonly { readonly name: string }[];
  readonly reserved_range?: readonly Range[];
  readonly options?: Options & { readonly map_entry?: boolean };
}

interface MethodProto {
  readonly name: string;
  readonly input_type: string;
  readonly output_type: string;
  readonly client_streaming?: boolean;
  readonly server_streaming?: boolean;
  readonly options?: Options;
}

interface FileProto {
  readonly package: string;
  readonly message_type?: readonly MessageProto[];
  readonly enum_type?: readonly EnumProto[];
  readonly service?: readonly {
    readonly name: string;
    readonly method?: readonly MethodProto[];
    readonly options?: Options;
  }[];
  readonly extension?: readonly FieldProto[];
}

type Fact = readonly [string, string];

const escapes: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  t: 9,
  n: 10,
  v: 11,
  f: 12,
  r: 13,
  '"': 34,
  '\\': 92,
};

/** The bytes of an interpreted Go string literal, without quotes. Throws for an escape that Go does not write. */
function goStringBytes(literal: string): Buffer {
  const parts = literal.match(/\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|\\.|[^\\]+/gs) ?? [];
  return Buffer.concat(
    parts.map((part) => {
      if (!part.startsWith('\\')) return Buffer.from(part, 'utf8');
      const code = Number.parseInt(part.slice(2), 16);
      if (part.startsWith('\\x')) return Buffer.of(code);
      if (/^\\u/i.test(part)) return Buffer.from(String.fromCodePoint(code), 'utf8');
      const byte = escapes[part.slice(1)];
      if (byte === undefined) throw new Error(`${part} is not an escape of a Go string`);
      return Buffer.of(byte);
    }),
  );
}

/** The raw FileDescriptorProto in a `.pb.go` file. Throws if protoc-gen-go has written it in another form. */
export function rawDescriptor(goSource: string): Buffer {
  const start = goSource.search(/^const \w+_rawDesc = ""/m);
  const end = goSource.indexOf('\n\n', start);
  if (start < 0 || end < 0)
    throw new Error('the Go file contains no raw descriptor as a string constant');
  const literals = goSource.slice(start, end).matchAll(/"((?:[^"\\\n]|\\.)*)"/g);
  return Buffer.concat([...literals].map(([, literal]) => goStringBytes(literal ?? '')));
}

/**
 * The facts of a raw descriptor. `root` has the messages of descriptor.proto and the names of option extensions. The facts
 * include their numbers, so a wrong number is found.
 */
export function factsOfRaw(raw: Uint8Array, root: protobuf.Root): Facts {
  const type = root.lookupType('google.protobuf.FileDescriptorProto');
  const file = type.toObject(type.decode(raw), { enums: String }) as FileProto;
  return new Map([
    ...(file.enum_type ?? []).flatMap((item) => enumFacts(item, file.package)),
    ...(file.message_type ?? []).flatMap((item) => messageFacts(item, file.package)),
    ...(file.service ?? []).flatMap((service): readonly Fact[] => [
      [`service ${file.package}.${service.name}`, options(service.options)],
      ...(service.method ?? []).map((method) =>
        methodFact(method, `${file.package}.${service.name}`),
      ),
    ]),
    ...(file.extension ?? []).map((field): Fact => {
      const target = (field.extendee ?? '').slice(1);
      return [
        `extension ${file.package}.${field.name}`,
        `${typeName(field)} = ${field.number} of ${target}`,
      ];
    }),
  ]);
}

/** The descriptor names extensions `.csi.v1.csi_secret`; facts use only the last part. */
function options(given: Options | undefined): string {
  const named = Object.entries(given ?? {}).map(([name, value]) => [
    name.slice(name.lastIndexOf('.') + 1),
    value,
  ]);
  return optionsText(Object.fromEntries(named) as Options);
}

function typeName(field: FieldProto): string {
  return field.type_name?.slice(1) ?? field.type.replace('TYPE_', '').toLowerCase();
}

function enumFacts(type: EnumProto, parent: string): readonly Fact[] {
  const name = `${parent}.${type.name}`;
  const reserved = reservedText(type.reserved_range?.map(({ start, end }) => [start, end]));
  return [
    [`enum ${name}`, options(type.options) + reserved],
    ...(type.value ?? []).map(
      (value): Fact => [`value ${name}.${value.name}`, `${value.number}${options(value.options)}`],
    ),
  ];
}

function messageFacts(type: MessageProto, parent: string): readonly Fact[] {
  const name = `${parent}.${type.name}`;
  const nested = type.nested_type ?? [];
  const entries = nested.filter((item) => item.options?.map_entry === true);
  const reserved = reservedText(type.reserved_range?.map(({ start, end }) => [start, end - 1]));
  return [
    [`message ${name}`, options(type.options) + reserved],
    ...(type.field ?? []).map(
      (field): Fact => [
        `field ${name}.${field.name}`,
        fieldText(
          field,
          type,
          entries.find((entry) => field.type_name === `.${name}.${entry.name}`),
        ),
      ],
    ),
    ...(type.enum_type ?? []).flatMap((item) => enumFacts(item, name)),
    ...nested.filter((item) => !entries.includes(item)).flatMap((item) => messageFacts(item, name)),
  ];
}

function fieldText(
  field: FieldProto,
  parent: MessageProto,
  entry: MessageProto | undefined,
): string {
  const repeated = field.label === 'LABEL_REPEATED' ? 'repeated ' : '';
  const [key, value] = entry?.field ?? [];
  const type =
    key !== undefined && value !== undefined
      ? `map<${typeName(key)}, ${typeName(value)}>`
      : `${repeated}${typeName(field)}`;
  const oneof =
    field.oneof_index === undefined
      ? ''
      : ` oneof ${parent.oneof_decl?.[field.oneof_index]?.name ?? '?'}`;
  return `${type} = ${field.number}${oneof}${options(field.options)}`;
}

function methodFact(method: MethodProto, service: string): Fact {
  const from = `${method.client_streaming === true ? 'stream ' : ''}${method.input_type.slice(1)}`;
  const to = `${method.server_streaming === true ? 'stream ' : ''}${method.output_type.slice(1)}`;
  return [`method ${service}.${method.name}`, `${from} -> ${to}${options(method.options)}`];
}
