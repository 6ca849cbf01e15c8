/** Tests that the comparison in the conformance test finds every kind of difference. */
import test from 'ava';
import protobuf from 'protobufjs';
import { factsOfRaw, rawDescriptor } from '../../helpers/go-descriptor.ts';
import { differences, factsOf } from '../../helpers/proto-facts.ts';

const proto = `
syntax = "proto3";
package shop.v1;
import "google/protobuf/descriptor.proto";
extend google.protobuf.FieldOptions { bool hidden = 1059; }
extend google.protobuf.MethodOptions { bool early = 1060; }
enum Size { NONE = 0; SMALL = 1; reserved 7; }
message Order {
  message Line { string article = 1; }
  reserved 9;
  string id = 1;
  int64 price = 2;
  repeated Line lines = 3;
  map<string, string> notes = 4 [(hidden) = true];
  oneof paid { string card = 5; bool cash = 6; }
  Size size = 8;
}
service Shop {
  rpc Buy (Order) returns (Order) {}
  rpc Watch (Order) returns (stream Order) { option (early) = true; }
}`;

function parsed(text: string): protobuf.Root {
  const root = protobuf.parse(text, { keepCase: true }).root;
  root.addJSON({ google: { nested: { protobuf: { nested: optionMessages } } } });
  root.resolveAll();
  return root;
}

const optionMessages = {
  FieldOptions: { fields: {}, extensions: [[1000, 2000]] },
  MethodOptions: { fields: {}, extensions: [[1000, 2000]] },
};

const facts = factsOf(parsed(proto), 'shop.v1');

test('a proto with other comments and another order has no differences', (t) => {
  const reordered = proto
    .replace('string id = 1;\n  int64 price = 2;', '// cents\n  int64 price = 2;\n  string id = 1;')
    .replace('package', '// a shop\npackage');
  t.not(reordered, proto);
  t.deepEqual(differences(facts, factsOf(parsed(reordered), 'shop.v1')), []);
});

const changes = [
  { name: 'a number', from: 'string id = 1', to: 'string id = 11', at: 'field shop.v1.Order.id' },
  { name: 'a type', from: 'int64 price', to: 'uint64 price', at: 'field shop.v1.Order.price' },
  {
    name: 'a message type',
    from: 'repeated Line',
    to: 'repeated Order',
    at: 'field shop.v1.Order.lines',
  },
  { name: 'a label', from: 'repeated Line', to: 'Line', at: 'field shop.v1.Order.lines' },
  {
    name: 'a map',
    from: 'map<string, string>',
    to: 'map<string, bytes>',
    at: 'field shop.v1.Order.notes',
  },
  {
    name: 'a map key',
    from: 'map<string, string>',
    to: 'map<int32, string>',
    at: 'field shop.v1.Order.notes',
  },
  { name: 'an option', from: ' [(hidden) = true]', to: '', at: 'field shop.v1.Order.notes' },
  {
    name: 'an option value',
    from: '(hidden) = true',
    to: '(hidden) = false',
    at: 'field shop.v1.Order.notes',
  },
  { name: 'a oneof', from: 'oneof paid', to: 'oneof payment', at: 'field shop.v1.Order.card' },
  { name: 'a field name', from: 'string card', to: 'string Card', at: 'field shop.v1.Order.Card' },
  { name: 'a removed field', from: 'Size size = 8;', to: '', at: 'field shop.v1.Order.size' },
  {
    name: 'an added field',
    from: 'Size size = 8;',
    to: 'Size size = 8; bool x = 10;',
    at: 'field shop.v1.Order.x',
  },
  {
    name: 'a removed message',
    from: 'message Order {',
    to: 'message More {} message Order {',
    at: 'message shop.v1.More',
  },
  { name: 'a reserved field', from: 'reserved 9', to: 'reserved 10', at: 'message shop.v1.Order' },
  { name: 'a reserved value', from: 'reserved 7', to: 'reserved 6', at: 'enum shop.v1.Size' },
  { name: 'an enum number', from: 'SMALL = 1', to: 'SMALL = 2', at: 'value shop.v1.Size.SMALL' },
  { name: 'an enum name', from: 'SMALL', to: 'TINY', at: 'value shop.v1.Size.TINY' },
  {
    name: 'an extension number',
    from: 'hidden = 1059',
    to: 'hidden = 1058',
    at: 'extension shop.v1.hidden',
  },
  {
    name: 'a stream',
    from: 'returns (stream Order)',
    to: 'returns (Order)',
    at: 'method shop.v1.Shop.Watch',
  },
  {
    name: 'a stream of requests',
    from: 'Buy (Order)',
    to: 'Buy (stream Order)',
    at: 'method shop.v1.Shop.Buy',
  },
  {
    name: 'a method option',
    from: 'option (early) = true;',
    to: '',
    at: 'method shop.v1.Shop.Watch',
  },
  {
    name: 'a removed method',
    from: 'rpc Buy (Order) returns (Order) {}',
    to: '',
    at: 'method shop.v1.Shop.Buy',
  },
] as const;

for (const { name, from, to, at } of changes) {
  test(`a changed proto is found: ${name}`, (t) => {
    const changed = proto.replace(from, to);
    t.not(changed, proto);
    const seen = differences(facts, factsOf(parsed(changed), 'shop.v1'));
    t.true(
      seen.some((line) => line.startsWith(`${at}: `)),
      seen.join('\n'),
    );
  });
}

/** The file above as protoc would compile it, so that both readers must give the same facts. */
const compiled = {
  name: 'shop.proto',
  package: 'shop.v1',
  message_type: [
    {
      name: 'Order',
      field: [
        { name: 'id', number: 1, label: 1, type: 9 },
        { name: 'price', number: 2, label: 1, type: 3 },
        { name: 'lines', number: 3, label: 3, type: 11, type_name: '.shop.v1.Order.Line' },
        {
          name: 'notes',
          number: 4,
          label: 3,
          type: 11,
          type_name: '.shop.v1.Order.NotesEntry',
          options: { '.shop.v1.hidden': true },
        },
        { name: 'card', number: 5, label: 1, type: 9, oneof_index: 0 },
        { name: 'cash', number: 6, label: 1, type: 8, oneof_index: 0 },
        { name: 'size', number: 8, label: 1, type: 14, type_name: '.shop.v1.Size' },
      ],
      nested_type: [
        { name: 'Line', field: [{ name: 'article', number: 1, label: 1, type: 9 }] },
        {
          name: 'NotesEntry',
          field: [
            { name: 'key', number: 1, label: 1, type: 9 },
            { name: 'value', number: 2, label: 1, type: 9 },
          ],
          options: { map_entry: true },
        },
      ],
      oneof_decl: [{ name: 'paid' }],
      reserved_range: [{ start: 9, end: 10 }],
    },
  ],
  enum_type: [
    {
      name: 'Size',
      value: [
        { name: 'NONE', number: 0 },
        { name: 'SMALL', number: 1 },
      ],
      reserved_range: [{ start: 7, end: 7 }],
    },
  ],
  service: [
    {
      name: 'Shop',
      method: [
        { name: 'Buy', input_type: '.shop.v1.Order', output_type: '.shop.v1.Order' },
        {
          name: 'Watch',
          input_type: '.shop.v1.Order',
          output_type: '.shop.v1.Order',
          server_streaming: true,
          options: { '.shop.v1.early': true },
        },
      ],
    },
  ],
  extension: [
    { name: 'hidden', number: 1059, label: 1, type: 8, extendee: '.google.protobuf.FieldOptions' },
    { name: 'early', number: 1060, label: 1, type: 8, extendee: '.google.protobuf.MethodOptions' },
  ],
};

/** descriptor.proto with this file's extensions in it. */
function descriptorRoot(): protobuf.Root {
  const root = new protobuf.Root();
  root.loadSync('node_modules/protobufjs/google/protobuf/descriptor.proto', { keepCase: true });
  protobuf.parse(proto, root, { keepCase: true });
  root.resolveAll();
  return root;
}

test('a compiled descriptor has the same facts as its proto file', (t) => {
  const root = descriptorRoot();
  const type = root.lookupType('google.protobuf.FileDescriptorProto');
  const raw = type.encode(type.fromObject(compiled)).finish();
  t.deepEqual(differences(facts, factsOfRaw(raw, root)), []);
  const changed = structuredClone(compiled);
  Object.assign(changed.message_type[0]?.field[1] ?? {}, { number: 22 });
  const other = type.encode(type.fromObject(changed)).finish();
  t.deepEqual(differences(facts, factsOfRaw(other, root)), [
    'field shop.v1.Order.price: ours int64 = 2, published int64 = 22',
  ]);
});

test('a raw descriptor is parsed from Go source, with every escape that Go writes', (t) => {
  const go = [
    'const file_a_proto_rawDesc = "" +',
    '\t"\\n" +',
    String.raw`	"\aA\b\t\v\f\r\"\\\x00\xffé\u00a0\U0001f4be" +`,
    '\t"end"',
    '',
    'var x = "not this"',
  ].join('\n');
  const expected = Buffer.concat([
    Buffer.of(10, 7, 65, 8, 9, 11, 12, 13, 34, 92, 0, 255),
    Buffer.from('é\u00a0\u{1f4be}end'),
  ]);
  t.deepEqual(rawDescriptor(go), expected);
  t.throws(() => rawDescriptor('package csi\n\n'), { message: /no raw descriptor/ });
  t.throws(() => rawDescriptor('const a_rawDesc = "" +\n\t"\\q"\n\n'), {
    message: /not an escape/,
  });
});
