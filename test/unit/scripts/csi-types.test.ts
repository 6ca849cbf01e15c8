import test from 'ava';
import protobuf from 'protobufjs';
import { descriptorOf, descriptorText } from '../../../scripts/csi-descriptor.ts';
import type { ProtoSource } from '../../../scripts/csi-proto.ts';
import { typesText } from '../../../scripts/csi-types.ts';

const source: ProtoSource = {
  proto: 'csi-proto/shop.proto',
  packageName: 'shop.v1',
  types: 'types.ts',
  descriptor: 'descriptor.ts',
  services: 'ShopServices',
};

function parsed(body: string): protobuf.Root {
  const text = `syntax = "proto3";\npackage shop.v1;\n${body}`;
  const { root } = protobuf.parse(text, { keepCase: true, alternateCommentMode: true });
  root.addJSON(protobuf.common.get('google/protobuf/timestamp.proto')?.nested ?? {});
  root.resolveAll();
  return root;
}

const cases = [
  {
    name: 'scalars, lists and maps are readonly, int64 is bigint, bytes are a Buffer',
    body: 'message M { int64 a = 1; repeated string b = 2; map<string, int64> c = 3; bytes d = 4; double e = 5; }',
    expect: `export interface M {
  readonly a: bigint;
  readonly b: readonly string[];
  readonly c: Readonly<Record<string, bigint>>;
  readonly d: Buffer;
  readonly e: number;
}
`,
  },
  {
    name: 'a message field can be null, a nested type carries its parent’s name',
    body: 'message M { message N { bool x = 1; } N n = 1; repeated N many = 2; }',
    expect: `export interface M {
  readonly n: MN | null;
  readonly many: readonly MN[];
}
`,
  },
  {
    name: 'an enum is a union of names, and its fields may have an unknown number',
    body: 'enum E {\n  ZERO = 0;\n  // The one.\n  ONE = 1;\n}\nmessage M { E e = 1; repeated E many = 2; }',
    expect: `export type E =
  | 'ZERO'
  /** The one. */
  | 'ONE';

export interface M {
  readonly e: E | UnknownEnumValue;
  readonly many: readonly (E | UnknownEnumValue)[];
}
`,
  },
  {
    name: 'a oneof is a union on its own name, unset included',
    body: 'message M { string z = 1; oneof choice { string a = 2; bool b = 3; } }',
    expect: `export type M = {
  readonly z: string;
} & (
  | {
      readonly choice: 'a';
      readonly a: string;
      readonly b?: never;
    }
  | {
      readonly choice: 'b';
      readonly b: boolean;
      readonly a?: never;
    }
  | {
      readonly choice?: undefined;
      readonly a?: never;
      readonly b?: never;
    }
);
`,
  },
  {
    name: 'comments are carried over, options say what they mean',
    body: '// A thing.\n// Two lines.\nmessage M {\n  // Needed */ here.\n  string s = 1 [(csi_secret) = true];\n}',
    expect: `/** A thing. Two lines. */
export interface M {
  /** Needed *\\/ here. Secret: masked in every log. */
  readonly s: string;
}
`,
  },
  {
    name: 'a message without fields has a type without fields',
    body: 'message M {}',
    expect: 'export type M = Readonly<Record<string, never>>;\n',
  },
  {
    name: 'a service lists its calls and whether they stream',
    body: 'message Q {}\nmessage S {}\nservice Shop { rpc Buy (Q) returns (S); rpc Watch (Q) returns (stream S); rpc Send (stream Q) returns (S); }',
    expect: `export interface ShopService {
  readonly Buy: Unary<Q, S>;
  readonly Watch: ServerStream<Q, S>;
  readonly Send: ClientStream<Q, S>;
}
`,
  },
] as const;

for (const { name, body, expect } of cases) {
  test(name, (t) => {
    const text = typesText(parsed(body), source);
    t.true(text.includes(`\n${expect}`), text);
  });
}

test('two proto names that map to the same TypeScript name are refused', (t) => {
  const root = parsed('message AB {}\nmessage A { message B {} }');
  t.throws(() => typesText(root, source), { message: /would both be named AB/ });
});

test('streams in both directions are refused, because no call needs them', (t) => {
  const root = parsed('message Q {}\nservice Shop { rpc Buy (stream Q) returns (stream Q); }');
  t.throws(() => typesText(root, source), { message: /streams in both directions/ });
});

test('the descriptor contains the package and the well-known types that it uses, without parsedOptions', (t) => {
  const root = parsed(
    'message M { google.protobuf.Timestamp at = 1; string s = 2 [(csi_secret) = true]; }',
  );
  const json = descriptorOf(root, source);
  const loaded = protobuf.Root.fromJSON(json);
  t.is(loaded.lookupType('shop.v1.M').fields['s']?.options?.['(csi_secret)'], true);
  t.is(loaded.lookupType('google.protobuf.Timestamp').fields['nanos']?.id, 2);
  t.throws(() => loaded.lookupType('google.protobuf.Any'));
  t.false(descriptorText(root, source).includes('parsedOptions'));
});
