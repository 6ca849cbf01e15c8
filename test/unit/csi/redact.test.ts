import test from 'ava';
import fc from 'fast-check';
import protobuf from 'protobufjs';
import { decode, encode, messageType, serviceType } from '../../../src/csi/codec.ts';
import { redact, redacted, rpcRedactors } from '../../../src/csi/redact.ts';
import type { CreateVolumeRequest } from '../../../src/csi/types.ts';
import { arbitraryMessage } from '../../helpers/arbitrary-message.ts';
import { everyMessage, nameOf, serviceNames } from '../../helpers/reflection.ts';

const secret = 'hunter2-correct-horse';

function asText(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    typeof item === 'bigint' ? `${item}` : item,
  );
}

const marked = everyMessage().flatMap((type) =>
  type.fieldsArray
    .filter((field) => field.options?.['(csi_secret)'] === true)
    .map((field) => ({ type, field })),
);

test('all 22 secret fields of the CSI spec are found', (t) => {
  const ofCsi = marked.filter(({ type }) => nameOf(type).startsWith('csi.v1.'));
  t.is(ofCsi.length, 22);
  t.true(ofCsi.every(({ field }) => field.map && field.name === 'secrets'));
});

test('every ticket is secret', (t) => {
  const tickets = everyMessage().filter(({ fields }) => 'ticket' in fields);
  t.is(tickets.length, 3);
  for (const type of tickets)
    t.true(
      marked.some((mark) => mark.type === type),
      nameOf(type),
    );
});

for (const { type, field } of marked) {
  test(`${nameOf(type)}.${field.name} is masked, keys and values`, (t) => {
    const value = field.map ? { [`${secret}-key`]: secret } : secret;
    const message = decode(type, encode(type, { [field.name]: value }));
    t.true(asText(message).includes(secret));
    const shown = redact(nameOf(type), message) as Record<string, unknown>;
    t.is(shown[field.name], redacted);
    t.false(asText(shown).includes(secret));
    t.true(asText(message).includes(secret), 'the message itself is left alone');
  });
}

test('other fields are kept, and an empty secret is shown as empty', (t) => {
  const request: CreateVolumeRequest = {
    name: 'pvc-1',
    capacity_range: { required_bytes: 1n, limit_bytes: 0n },
    volume_capabilities: [],
    parameters: { pool: 'default' },
    secrets: {},
    volume_content_source: null,
    accessibility_requirements: null,
    mutable_parameters: {},
  };
  t.deepEqual(redact('csi.v1.CreateVolumeRequest', request), request);
});

test('a message of a type without secrets is returned, not copied', (t) => {
  const message = { volume_id: 'v1', staging_target_path: '/s' };
  t.is(redact('csi.v1.NodeUnstageVolumeRequest', message), message);
});

test('a value that is not a message is returned', (t) => {
  for (const value of [null, undefined, 'text', 7n]) {
    t.is(redact('csi.v1.CreateVolumeRequest', value), value);
  }
});

test('in every message, unmarked fields are equal and marked ones are masked or empty', (t) => {
  for (const type of everyMessage()) {
    const names = new Set(
      marked.filter((mark) => mark.type === type).map(({ field }) => field.name),
    );
    fc.assert(
      fc.property(arbitraryMessage(type), (message) => {
        const shown = redact(nameOf(type), message) as Record<string, unknown>;
        for (const [name, value] of Object.entries(message)) {
          const isEmpty =
            value === '' ||
            (typeof value === 'object' && value !== null && Object.keys(value).length === 0);
          t.deepEqual(shown[name], names.has(name) && !isEmpty ? redacted : value);
        }
      }),
      { numRuns: 5 },
    );
  }
  t.pass();
});

test('rpcRedactors covers every RPC of every service', (t) => {
  for (const name of serviceNames) {
    for (const method of serviceType(name).methodsArray) {
      const { request } = rpcRedactors(name, method.name as never);
      const type = messageType(`${name.slice(0, name.lastIndexOf('.'))}.${method.requestType}`);
      const hasSecrets = 'secrets' in type.fields;
      const message = decode(type, encode(type, hasSecrets ? { secrets: { key: secret } } : {}));
      t.false(asText(request(message)).includes(secret), method.fullName);
    }
  }
  t.throws(() => rpcRedactors('csi.v1.Identity', 'Nothing' as never), {
    message: /has no Nothing/,
  });
});

/** No message of csi.v1 has a nested secret, so this test defines one. */
test('secrets in nested, repeated, mapped and recursive messages are masked', (t) => {
  const root = protobuf.parse(
    `syntax = "proto3";
     message Tree {
       message Leaf { string open = 1; string closed = 2 [(csi_secret) = true]; bytes raw = 3 [(csi_secret) = true]; }
       Leaf one = 1;
       repeated Leaf many = 2;
       map<string, Leaf> named = 3;
       oneof choice { Leaf chosen = 4; string other = 5; }
       repeated string list = 6 [(csi_secret) = true];
       Tree child = 7;
     }`,
    { keepCase: true },
  ).root;
  const leaf = { open: 'o', closed: secret, raw: Buffer.from(secret) };
  const masked = { open: 'o', closed: redacted, raw: redacted };
  const tree = (node: unknown, list: unknown, child: unknown): Record<string, unknown> => ({
    one: null,
    many: [node, node],
    named: { a: node },
    choice: 'chosen',
    chosen: node,
    list,
    child,
  });
  const shown = redact(
    root.lookupType('Tree'),
    tree(leaf, [secret], { one: leaf, many: [], named: {}, list: [], child: null }),
  );
  t.deepEqual(
    shown,
    tree(masked, redacted, { one: masked, many: [], named: {}, list: [], child: null }),
  );
});
