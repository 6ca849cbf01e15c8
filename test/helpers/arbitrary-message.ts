/** fast-check arbitraries for the messages of csi-proto/, in the form in which codec.ts decodes them. */
import fc from 'fast-check';
import protobuf from 'protobufjs/light.js';

const int64 = { min: -(2n ** 63n), max: 2n ** 63n - 1n };
const int32 = { min: -(2 ** 31), max: 2 ** 31 - 1 };

/** Any proto3 string, including names such as `__proto__` that are special in JavaScript objects. */
const text = fc.oneof(
  { weight: 9, arbitrary: fc.string({ unit: 'binary', maxLength: 20 }) },
  { weight: 1, arbitrary: fc.constantFrom('__proto__', 'constructor', 'toString', '\u0000', '') },
);

const bounds64 = fc.constantFrom(int64.min, int64.max, 0n, 2n ** 53n + 1n, 2n ** 32n, -1n);

const scalars: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  bool: fc.boolean(),
  // The codec decodes bytes to a Buffer.
  bytes: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  double: fc.double(),
  int32: fc.oneof(fc.integer(int32), fc.constantFrom(int32.min, int32.max, 0)),
  int64: fc.oneof(fc.bigInt(int64), bounds64),
  string: text,
};

/** A message with any values, including absent messages and unset oneofs. Throws for a scalar type that the protos do not use. */
export function arbitraryMessage(type: protobuf.Type): fc.Arbitrary<Record<string, unknown>> {
  const plain = type.fieldsArray.filter((field) => field.partOf === null);
  const base = fc.record(
    Object.fromEntries(plain.map((field) => [field.name, arbitraryField(field.resolve())])),
    { noNullPrototype: true },
  );
  const oneofs = type.oneofsArray.map((oneof) =>
    fc.oneof(
      fc.constant({}),
      ...oneof.fieldsArray.map((field) =>
        arbitraryValue(field.resolve()).map((value) => ({
          [oneof.name]: field.name,
          [field.name]: value,
        })),
      ),
    ),
  );
  return fc
    .tuple(base, ...oneofs)
    .map((parts) => Object.assign({}, ...parts) as Record<string, unknown>);
}

function arbitraryField(field: protobuf.Field): fc.Arbitrary<unknown> {
  const value = arbitraryValue(field);
  if (field.repeated) return fc.array(value, { maxLength: 4 });
  if (field.map) {
    const entries = fc.uniqueArray(fc.tuple(text, value), {
      maxLength: 4,
      selector: ([key]) => key,
    });
    return entries.map((items) => Object.fromEntries(items));
  }
  return field.resolvedType instanceof protobuf.Type ? fc.option(value) : value;
}

function arbitraryValue(field: protobuf.Field): fc.Arbitrary<unknown> {
  if (field.resolvedType instanceof protobuf.Type) return arbitraryMessage(field.resolvedType);
  if (field.resolvedType instanceof protobuf.Enum) return arbitraryEnum(field.resolvedType);
  const scalar = scalars[field.type];
  if (scalar === undefined) throw new Error(`${field.fullName}: no arbitrary for ${field.type}`);
  return scalar;
}

/** A name, or a number without a name. */
function arbitraryEnum(type: protobuf.Enum): fc.Arbitrary<unknown> {
  const unnamed = fc.integer(int32).filter((number) => type.valuesById[number] === undefined);
  return fc.oneof(fc.constantFrom(...Object.keys(type.values)), unnamed);
}
