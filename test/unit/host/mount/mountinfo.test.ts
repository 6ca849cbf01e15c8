import test from 'ava';
import fc from 'fast-check';
import { lastMountAt, parseMountinfo } from '../../../../src/host/mount/mountinfo.ts';

const escape = (text: string): string =>
  Array.from(text)
    .map((one) =>
      ' \t\n\\'.includes(one) ? `\\${one.charCodeAt(0).toString(8).padStart(3, '0')}` : one,
    )
    .join('');

function line(id: number, target: string, optional = 'shared:1'): string {
  const middle = optional === '' ? '' : `${optional} `;
  return `${id} 25 7:${id} / ${escape(target)} rw,noatime ${middle}- ext4 /dev/loop${id} rw,emergency_ro\n`;
}

test('a line is parsed', (t) => {
  t.deepEqual(parseMountinfo(line(3, '/a b\\c')), [
    {
      id: 3,
      parentId: 25,
      majorMinor: '7:3',
      root: '/',
      target: '/a b\\c',
      options: ['rw', 'noatime'],
      fsType: 'ext4',
      source: '/dev/loop3',
      superOptions: ['rw', 'emergency_ro'],
    },
  ]);
});

for (const optional of ['', 'master:2', 'shared:1 master:2 propagate_from:9']) {
  test(`optional fields are ignored: '${optional}'`, (t) => {
    t.is(parseMountinfo(line(1, '/x', optional))[0]?.source, '/dev/loop1');
  });
}

test('a line with an empty source, as some filesystems have it, is parsed', (t) => {
  const text = '9 1 0:44 / /run rw - tmpfs  rw\n';
  t.deepEqual(
    [parseMountinfo(text)[0]?.source, parseMountinfo(text)[0]?.superOptions],
    ['', ['rw']],
  );
});

test('lines that are not mountinfo are ignored', (t) => {
  t.deepEqual(parseMountinfo('\nnonsense\n1 2 3:4 / /x rw\n'), []);
});

test('a lookup finds the last of stacked mounts, and no mount at a longer or shorter path', (t) => {
  const text =
    line(1, '/a/b') + line(2, '/a') + line(3, '/a/b') + line(4, '/a/b/c') + line(5, '/x/a/b');
  t.is(lastMountAt(text, '/a/b')?.id, 3);
  t.is(lastMountAt(text, '/a/'), undefined);
  t.is(lastMountAt(text, '/b'), undefined);
});

test('a root or source equal to the target is not a match', (t) => {
  const text = '7 1 8:1 /a /b rw - ext4 /dev/sda rw\n8 1 0:5 / /c rw - fuse /a rw\n';
  t.is(lastMountAt(text, '/a'), undefined);
});

const paths = fc
  .array(
    fc.string({
      unit: fc.constantFrom('a', 'é', ' ', '\t', '\n', '\\', '0', '4'),
      minLength: 1,
      maxLength: 4,
    }),
    { minLength: 1, maxLength: 3 },
  )
  .map((names) => `/${names.join('/')}`);

test('any path is escaped and parsed unchanged, and both lookups find it', (t) => {
  fc.assert(
    fc.property(fc.array(paths, { minLength: 1, maxLength: 8 }), paths, (targets, other) => {
      const text = targets.map((target, index) => line(index, target)).join('');
      const all = parseMountinfo(text);
      t.deepEqual(
        all.map(({ target }) => target),
        targets,
      );
      for (const wanted of [...targets, other]) {
        t.deepEqual(
          lastMountAt(text, wanted),
          all.findLast(({ target }) => target === wanted),
        );
      }
    }),
  );
});
