/**
 * Describes the wire format of a proto package as comparable lines: one for each message, field, oneof, enum, value,
 * extension, service and method. Comments and order are not included.
 */
import protobuf from 'protobufjs';

/** Descriptions by kind and full name: `field csi.v1.Volume.volume_id` is `string = 2`. */
export type Facts = ReadonlyMap<string, string>;

/** Options as one text: `[alpha_field=true csi_secret=true]`, or an empty text. */
export function optionsText(options: Readonly<Record<string, unknown>> | null | undefined): string {
  const texts = Object.entries(options ?? {})
    // protobufjs adds these two; neither occurs in a proto3 file.
    .filter(([name]) => name !== 'packed' && name !== 'proto3_optional')
    .map(([name, value]) => `${name.replace(/^\((?:.*\.)?(\w+)\)$/, '$1')}=${String(value)}`);
  return texts.length === 0 ? '' : ` [${texts.toSorted().join(' ')}]`;
}

/** Reserved numbers and names as one text. */
export function reservedText(
  reserved: readonly (readonly number[] | string)[] | undefined,
): string {
  const texts = (reserved ?? []).map((item) => (typeof item === 'string' ? item : item.join('-')));
  return texts.length === 0 ? '' : ` reserved ${texts.toSorted().join(',')}`;
}

function fullName(object: protobuf.ReflectionObject): string {
  return object.fullName.slice(1);
}

function typeText(field: protobuf.Field): string {
  const value = field.resolvedType === null ? field.type : fullName(field.resolvedType);
  if (field instanceof protobuf.MapField) return `map<${field.keyType}, ${value}>`;
  return field.repeated ? `repeated ${value}` : value;
}

function fieldText(field: protobuf.Field): string {
  field.resolve();
  const oneof = field.partOf === null ? '' : ` oneof ${field.partOf.name}`;
  return `${typeText(field)} = ${field.id}${oneof}${optionsText(field.options)}`;
}

function* enumFacts(type: protobuf.Enum): Iterable<[string, string]> {
  yield [`enum ${fullName(type)}`, optionsText(type.options) + reservedText(type.reserved)];
  for (const [name, number] of Object.entries(type.values)) {
    yield [
      `value ${fullName(type)}.${name}`,
      `${number}${optionsText(type.valuesOptions?.[name])}`,
    ];
  }
}

function* serviceFacts(service: protobuf.Service): Iterable<[string, string]> {
  yield [`service ${fullName(service)}`, optionsText(service.options)];
  for (const method of service.methodsArray) {
    method.resolve();
    const { resolvedRequestType: request, resolvedResponseType: response } = method;
    if (request === null || response === null)
      throw new Error(`${method.fullName} is not resolved`);
    const from = `${method.requestStream === true ? 'stream ' : ''}${fullName(request)}`;
    const to = `${method.responseStream === true ? 'stream ' : ''}${fullName(response)}`;
    yield [`method ${fullName(method)}`, `${from} -> ${to}${optionsText(method.options)}`];
  }
}

function* factsIn(namespace: protobuf.NamespaceBase): Iterable<[string, string]> {
  for (const object of namespace.nestedArray) {
    if (object instanceof protobuf.Enum) yield* enumFacts(object);
    else if (object instanceof protobuf.Service) yield* serviceFacts(object);
    else if (object instanceof protobuf.Field) {
      yield [
        `extension ${fullName(object)}`,
        `${object.type} = ${object.id} of ${object.extend ?? ''}`,
      ];
    } else if (object instanceof protobuf.Type) {
      yield [
        `message ${fullName(object)}`,
        optionsText(object.options) + reservedText(object.reserved),
      ];
      for (const field of object.fieldsArray) yield [`field ${fullName(field)}`, fieldText(field)];
      yield* factsIn(object);
    }
  }
}

/** The facts of a reflected package. Throws if the root does not contain it. */
export function factsOf(root: protobuf.Root, packageName: string): Facts {
  const namespace = root.lookup(packageName);
  if (!(namespace instanceof protobuf.Namespace))
    throw new Error(`there is no package ${packageName}`);
  return new Map(factsIn(namespace));
}

/** One line for each difference between `ours` and `theirs`. */
export function differences(ours: Facts, theirs: Facts): readonly string[] {
  const names = new Set([...ours.keys(), ...theirs.keys()]);
  return [...names].toSorted().flatMap((name) => {
    const [mine, other] = [ours.get(name), theirs.get(name)];
    if (mine === other) return [];
    return [`${name}: ours ${mine ?? 'absent'}, published ${other ?? 'absent'}`];
  });
}
