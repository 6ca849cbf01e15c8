/** Well-formed hostile messages: every field of every request, with values that caused defects in other software. */
import { join } from 'node:path';
import fc from 'fast-check';
import protobuf from 'protobufjs/light.js';
import { nodeTagOf, volumeIdFor } from '../../../src/ids.ts';
import type { Fixture } from './fixture.ts';

/** Texts with a special meaning for a shell, a path, an option parser, a log or a JavaScript object. */
export function hostileTexts({ canaryDir, kubeletDir, directory }: Fixture): readonly string[] {
  const pwned = join(canaryDir, 'pwned');
  return [
    '',
    '.',
    '..',
    '/',
    '//',
    '../../../../etc/passwd',
    `../${'../'.repeat(20)}${canaryDir.slice(1)}/file`,
    canaryDir,
    join(canaryDir, 'file'),
    join(canaryDir, 'deep', 'new'),
    join(kubeletDir, 'link', 'new'),
    join(kubeletDir, 'link', 'deep', 'empty'),
    join(kubeletDir, 'link'),
    join(kubeletDir, 'file-link'),
    `${kubeletDir}/../canary/deep`,
    join(kubeletDir, 'target'),
    join(kubeletDir, 'staging'),
    kubeletDir,
    join(directory, 'pool'),
    join(directory, 'pool', 'volumes'),
    '/proc/self/root',
    '/dev/loop-control',
    `$(touch ${pwned})`,
    `\`touch ${pwned}\``,
    `; touch ${pwned};`,
    `| touch ${pwned}`,
    `\ntouch ${pwned}\n`,
    '--help',
    '-rf',
    '-o loop',
    'remount,bind',
    'a\u0000b',
    '\u202egnp.exe',
    '\u001b]0;title\u0007',
    '__proto__',
    'constructor',
    'ü'.repeat(120),
    'x'.repeat(129),
    'x'.repeat(5_000),
    '{"json":true}',
    '%s%n%d',
    'victim',
    volumeIdFor('victim', nodeTagOf('test-node')),
    volumeIdFor('victim', 'ffffffff'),
    'ext4',
    'xfs',
    'true',
    '-1',
    '1e9',
    '9223372036854775808',
  ];
}

/** The message with some of its strings and numbers replaced, at any depth. */
export function hostile(
  type: protobuf.Type,
  texts: fc.Arbitrary<string>,
): fc.Arbitrary<Record<string, unknown>> {
  const plain = type.fieldsArray.filter((field) => field.partOf === null);
  const base = fc.record(
    Object.fromEntries(plain.map((field) => [field.name, field_(field.resolve(), texts)])),
    { noNullPrototype: true },
  );
  const oneofs = type.oneofsArray.map((oneof) =>
    fc.oneof(
      ...oneof.fieldsArray.map((field) =>
        value(field.resolve(), texts).map((one) => ({
          [oneof.name]: field.name,
          [field.name]: one,
        })),
      ),
    ),
  );
  return fc
    .tuple(base, ...oneofs)
    .map((parts) => Object.assign({}, ...parts) as Record<string, unknown>);
}

function field_(field: protobuf.Field, texts: fc.Arbitrary<string>): fc.Arbitrary<unknown> {
  const one = value(field, texts);
  if (field.repeated) return fc.array(one, { maxLength: 3 });
  if (field.map) {
    return fc
      .array(fc.tuple(fc.oneof(fc.constantFrom('pool', 'mkfsOptions', 'size'), texts), one), {
        maxLength: 3,
      })
      .map((entries) => Object.fromEntries(entries));
  }
  return field.resolvedType instanceof protobuf.Type ? fc.option(one, { freq: 8, nil: null }) : one;
}

const numbers = fc.constantFrom(
  0n,
  1n,
  -1n,
  2n ** 25n,
  2n ** 30n,
  2n ** 53n + 1n,
  2n ** 63n - 1n,
  -(2n ** 63n),
);

function value(field: protobuf.Field, texts: fc.Arbitrary<string>): fc.Arbitrary<unknown> {
  if (field.resolvedType instanceof protobuf.Type) return hostile(field.resolvedType, texts);
  if (field.type === 'bytes') return texts.map((text) => Buffer.from(text));
  if (field.resolvedType instanceof protobuf.Enum) {
    return fc.oneof(
      { weight: 9, arbitrary: fc.constantFrom(...Object.keys(field.resolvedType.values)) },
      { weight: 1, arbitrary: fc.constant(4711) },
    );
  }
  switch (field.type) {
    case 'bool':
      return fc.boolean();
    case 'int32':
      return fc.constantFrom(0, 1, -1, 2 ** 31 - 1, -(2 ** 31));
    case 'int64':
      return numbers;
    case 'double':
      return fc.constant(0);
    default:
      return texts;
  }
}
