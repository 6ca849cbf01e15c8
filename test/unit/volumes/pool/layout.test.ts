import test from 'ava';
import {
  isPrivateMountName,
  makePrivateMountName,
} from '../../../../src/host/filesystem/private-mount-name.ts';
import { volumeIdFor } from '../../../../src/ids.ts';
import {
  makeTemporaryName,
  makeTrashName,
  makeTrialName,
  missingFile,
  parseTemporaryName,
  parseTrashName,
} from '../../../../src/volumes/pool/layout.ts';

const ids = ['data', 'a.b-c', 'with space'].map((name) => volumeIdFor(name, '0123abcd'));

test('the name of an entry in tmp/ contains its opening and its id', (t) => {
  for (const id of ids) {
    for (const opening of [1, 12]) {
      t.deepEqual(parseTemporaryName(makeTemporaryName(opening, id)), { opening, id });
    }
  }
});

test('other names in tmp/ are no entries', (t) => {
  for (const name of [missingFile, makeTrialName(), makePrivateMountName(), 'thaw.1', '1.x.data']) {
    t.is(parseTemporaryName(name), undefined, name);
  }
});

test('the name of an entry in trash/ contains its id', (t) => {
  for (const id of ids) t.is(parseTrashName(makeTrashName(id)), id);
  t.is(parseTrashName('other'), undefined);
});

test('mount points of private mounts have names of their own', (t) => {
  t.true(isPrivateMountName(makePrivateMountName()));
  t.true(isPrivateMountName('thaw.12'));
  for (const name of [
    'mount-',
    'thaw.',
    missingFile,
    makeTrialName(),
    makeTemporaryName(1, volumeIdFor('data', '0123abcd')),
  ]) {
    t.false(isPrivateMountName(name), name);
  }
});
