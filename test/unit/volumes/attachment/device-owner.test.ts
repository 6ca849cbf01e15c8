import test from 'ava';
import { volumeIdFor } from '../../../../src/ids.ts';
import { isEntryOf, poolEntryAt } from '../../../../src/volumes/attachment/device-owner.ts';
import { makeTrashName } from '../../../../src/volumes/pool/layout.ts';
import { poolDefaults } from '../../../../src/volumes/pool/settings.ts';

const id = volumeIdFor('data', '0123abcd');

function poolAt(path: string, root: string | undefined) {
  return {
    settings: { ...poolDefaults, name: 'a', path },
    isServed: root !== undefined,
    get root(): string {
      if (root === undefined) throw new Error('the pool is not served');
      return root;
    },
  };
}

const pools = {
  'a served pool': { path: '/srv/a', root: '/srv/a', at: '/srv/a' },
  'a served pool behind a symbolic link': { path: '/srv/link', root: '/disk/a', at: '/disk/a' },
  'a pool that is not served': { path: '/srv/a', root: undefined, at: '/srv/a' },
  'an embedded pool': { path: '/srv/a', root: '/srv/a/reflink', at: '/srv/a/reflink' },
  'an embedded pool that is not served': { path: '/srv/a', root: undefined, at: '/srv/a/reflink' },
};

for (const [name, { path, root, at }] of Object.entries(pools)) {
  test(`the path of an image leads to its entry: ${name}`, (t) => {
    const pool = poolAt(path, root);
    const found = poolEntryAt([pool], `${at}/volumes/${id}/disk.img`);
    t.deepEqual(found, { area: 'volumes', entry: id });
    t.is(poolEntryAt([pool], `${path}-other/volumes/${id}/disk.img`), undefined);
  });
}

test('an entry belongs to the volume of its name, also in the trash', (t) => {
  t.true(isEntryOf({ area: 'volumes', entry: id }, id));
  t.true(isEntryOf({ area: 'trash', entry: makeTrashName(id) }, id));
  t.false(isEntryOf({ area: 'trash', entry: makeTrashName(id) }, 'other.0123abcd'));
  t.is(isEntryOf({ area: 'tmp', entry: 'x' }, id), undefined);
});
