import test from 'ava';
import { firstPlace } from '../../../src/controller/route.ts';
import { aNode } from '../../helpers/controller-context.ts';

const placeOf = (
  topologies: readonly Readonly<Record<string, string>>[],
  own: Readonly<Record<string, string>>,
): number | undefined =>
  firstPlace(topologies.map((segments) => ({ segments })))(aNode('n1', { segments: own }));

test('the first of the topologies that a node is in', (t) => {
  const own = { zone: 'a', node: 'n1' };
  t.is(placeOf([{ node: 'n2' }, { node: 'n1' }, { zone: 'a' }], own), 1);
  t.is(placeOf([{ zone: 'a' }, { node: 'n1' }], own), 0);
  t.is(placeOf([{ node: 'n2' }, { zone: 'b' }], own), undefined);
  t.is(placeOf([], own), undefined);
});

test('all segments of a topology must be those of the node', (t) => {
  const own = { zone: 'a', node: 'n1' };
  t.is(
    placeOf(
      [
        { zone: 'a', node: 'n2' },
        { zone: 'a', node: 'n1' },
      ],
      own,
    ),
    1,
  );
  t.is(placeOf([{ zone: 'a', rack: '1' }], own), undefined);
});

test('keys of segments are case-insensitive, and values are not', (t) => {
  t.is(placeOf([{ NODE: 'N1' }, { Node: 'n1' }], { node: 'n1' }), 1);
});

test('a topology without segments is that of every node', (t) => {
  t.is(placeOf([{ node: 'n2' }, {}, { node: 'n1' }], { node: 'n1' }), 1);
  t.is(placeOf([{}], {}), 0);
});
