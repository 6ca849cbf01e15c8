import test from 'ava';
import fc from 'fast-check';
import {
  nodeTagIn,
  nodeTagOf,
  parseVolumeId,
  requireOwnId,
  type VolumeId,
  volumeIdFor,
  withNodeTag,
} from '../../src/ids.ts';

const tag = nodeTagOf('node-1');

test('a safe name is part of the id unchanged', (t) => {
  t.is(String(volumeIdFor('pvc-4f1c', tag)), `pvc-4f1c.${tag}`);
});

for (const name of ['../x', 'a/b', '.hidden', '', 'ü', 'a b', '-dash', '_x', 'x'.repeat(101)]) {
  test(`the name ${JSON.stringify(name.slice(0, 12))} is hashed`, (t) => {
    t.regex(volumeIdFor(name, tag), /^_[0-9a-f]{64}\.[0-9a-f]{8}$/);
  });
}

test('every id has the required form, at most 128 bytes and no slash, and equal names give equal ids', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (name) => {
      const id = volumeIdFor(name, tag);
      t.is(parseVolumeId(id), id);
      t.true(Buffer.byteLength(id) <= 128);
      t.false(id.includes('/') || id.startsWith('.'));
      t.is(volumeIdFor(name, tag), id);
      t.is(nodeTagIn(id), tag);
    }),
  );
});

test('different names give different ids', (t) => {
  fc.assert(
    fc.property(fc.string({ maxLength: 140 }), fc.string({ maxLength: 140 }), (a, b) => {
      t.is(volumeIdFor(a, tag) === volumeIdFor(b, tag), a === b);
    }),
  );
});

for (const id of [
  '',
  'x',
  '../../etc.00000000',
  `a/b.${tag}`,
  `a.${tag}x`,
  `.a.${tag}`,
  'a.ABCDEF01',
  `a.${tag}\n`,
]) {
  test(`${JSON.stringify(id)} is not an id of this driver`, (t) => {
    t.is(parseVolumeId(id), undefined);
    t.throws(() => requireOwnId<VolumeId>(id, { nodeTag: tag, kind: 'volume' }), {
      message: /does not exist/,
    });
  });
}

test('an id of another node is not found, and the message names that node’s tag', (t) => {
  const other = volumeIdFor('v', nodeTagOf('node-2'));
  t.throws(() => requireOwnId<VolumeId>(other, { nodeTag: tag, kind: 'volume' }), {
    message: new RegExp(`another node.*${nodeTagOf('node-2')}`),
  });
});

test('only an id of one node gets the tag of another', (t) => {
  const change = { from: tag, to: '12345678' };
  t.is(withNodeTag(volumeIdFor('data', tag), change), volumeIdFor('data', '12345678'));
  t.is(withNodeTag('data.87654321', change), 'data.87654321');
  t.is(withNodeTag(`data${tag}`, change), `data${tag}`);
});
