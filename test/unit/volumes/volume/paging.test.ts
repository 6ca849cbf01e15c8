import test from 'ava';
import fc from 'fast-check';
import { VolumeError } from '../../../../src/errors.ts';
import type { VolumeId } from '../../../../src/ids.ts';
import { MiB } from '../../../../src/units.ts';
import { pageOf, RecordIndex } from '../../../../src/volumes/pool/record-index.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { aVolumeId } from '../../../helpers/ids.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';

const idOf = (entry: { id: string }): string => entry.id;

test('pages of any size return every entry once, in order', (t) => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.stringMatching(/^[a-z0-9]{1,8}$/), { maxLength: 40 }),
      fc.integer({ min: 1, max: 9 }),
      (ids, maxEntries) => {
        const index = new RecordIndex<{ id: VolumeId }>();
        for (const id of ids) index.put({ id: aVolumeId(id) });
        const seen: string[] = [];
        let startingToken = '';
        do {
          const page = pageOf(index.sorted(), { maxEntries, startingToken, idOf });
          t.true(page.entries.length <= maxEntries);
          t.true(seen.length <= ids.length, 'paging ends');
          seen.push(...page.entries.map(idOf));
          startingToken = page.nextToken;
        } while (startingToken !== '');
        t.deepEqual(seen, [...ids].sort());
      },
    ),
  );
});

test('entries that are deleted between two pages hide no others', (t) => {
  const index = new RecordIndex<{ id: VolumeId }>();
  for (const id of ['a', 'b', 'c', 'd']) index.put({ id: aVolumeId(id) });
  const first = pageOf(index.sorted(), { maxEntries: 2, startingToken: '', idOf });
  index.delete(aVolumeId('b'));
  const second = pageOf(index.sorted(), { maxEntries: 2, startingToken: first.nextToken, idOf });
  t.deepEqual(second.entries.map(idOf), ['c', 'd']);
  t.is(second.nextToken, '');
});

test('without a maximum number all entries are returned', (t) => {
  const entries = [{ id: 'a' }, { id: 'b' }];
  t.deepEqual(pageOf(entries, { maxEntries: 0, startingToken: '', idOf }), {
    entries,
    nextToken: '',
  });
});

for (const startingToken of ['1', 'after.', 'after.a/b', 'after.a b', 'before.a']) {
  test(`an unknown token is stale: ${startingToken}`, (t) => {
    const error = t.throws(() => pageOf([], { maxEntries: 1, startingToken, idOf }), {
      instanceOf: VolumeError,
    });
    t.is(error.reason, 'stale-token');
  });
}

test('pages over several pools are in one order, with each entry once', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a'), node.settings('b')]);
  for (const [i, pool] of ['b', 'a', 'a', 'b', 'b', 'a', 'b'].entries()) {
    const input = volumeInput(`v${i}`, { sizeBytes: 8n * MiB });
    await volumes.createVolume(call(), { ...input, settings: { ...input.settings, pool } });
  }
  for (const maxEntries of [1, 2, 3, 7, 8, 0]) {
    const seen: string[] = [];
    let startingToken = '';
    do {
      const page = await volumes.listVolumes({ maxEntries, startingToken });
      if (maxEntries > 0) t.true(page.entries.length <= maxEntries);
      seen.push(...page.entries.map(({ record }) => record.name));
      startingToken = page.nextToken;
    } while (startingToken !== '');
    t.deepEqual(seen, ['v0', 'v1', 'v2', 'v3', 'v4', 'v5', 'v6'], `pages of ${maxEntries}`);
  }
});

test('a full page of a pool with more entries has a token for the next page', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  for (const name of ['v0', 'v1', 'v2']) {
    await volumes.createVolume(call(), volumeInput(name, { sizeBytes: 8n * MiB }));
  }
  const first = await volumes.listVolumes({ maxEntries: 2, startingToken: '' });
  const { nextToken: startingToken } = first;
  const second = await volumes.listVolumes({ maxEntries: 2, startingToken });
  t.deepEqual(
    [first, second].map(({ entries }) => entries.map(({ record }) => record.name)),
    [['v0', 'v1'], ['v2']],
  );
  t.is(second.nextToken, '');
});
