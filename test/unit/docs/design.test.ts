import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { knownPoolsFile } from '../../../src/state/known-pools.ts';
import { faultPoints } from '../../../src/volumes/engine/fault-points.ts';
import {
  entryFiles,
  imageFile,
  knownVolumesDirectory,
  poolAreas,
  poolFiles,
  recordFiles,
} from '../../../src/volumes/pool/layout.ts';

const root = join(import.meta.dirname, '..', '..', '..', '..');
const page = readFileSync(join(root, 'docs', 'design.md'), 'utf8');

/** The text of the section with that title, up to the next one. */
function section(title: string): string {
  const [, text = ''] = page.split(`\n## ${title}\n`);
  return text.split('\n## ')[0] ?? '';
}

/** The drawings of a section: its fenced blocks. */
function drawings(title: string): readonly string[] {
  return section(title)
    .split('```')
    .filter((_text, index) => index % 2 === 1);
}

test('docs/design.md names the directories and files of a pool as the layout has them', (t) => {
  const [drawing = ''] = drawings('On disk');
  const names = new Set<string>([
    ...[...poolAreas, poolFiles.embeddedMount].map((directory) => `${directory}/`),
    ...[poolFiles.marker, poolFiles.lock, poolFiles.embeddedImage, imageFile],
    ...Object.values(recordFiles),
    ...Object.values(entryFiles),
  ]);
  const drawn = new Set(
    drawing
      .split('\n')
      .filter((line) => !line.startsWith('<state-dir>'))
      .flatMap(
        (line) => line.match(/(?<![\w-])(?:[a-z]+\.[a-z.]*[a-z]|[a-z]+\/|lock$|lock(?= ))/g) ?? [],
      ),
  );
  t.deepEqual(
    [...names].filter((name) => !drawn.has(name)),
    [],
    'not drawn',
  );
  t.deepEqual(
    [...drawn].filter((name) => !names.has(name) && name !== 'disk.img.undo'),
    [],
    'drawn, but not in the layout',
  );
});

test('docs/design.md names the files of the state directory', (t) => {
  const [drawing = ''] = drawings('On disk');
  const drawn = [...drawing.matchAll(/^<state-dir>\/([\w.-]+)/gm)].map(([, name]) => name);
  t.deepEqual(drawn, [knownPoolsFile, knownVolumesDirectory]);
});

test('docs/design.md describes each of three calls with at most a dozen files, which exist', (t) => {
  const walks = drawings('Three calls, end to end');
  t.is(walks.length, 3);
  for (const walk of walks) {
    const named = new Set(walk.match(/[\w/-]+\.ts/g));
    // rpc/call.ts is the first of each.
    t.true(named.size + 1 <= 12, [...named].join(' '));
    for (const name of named) {
      const places = ['', 'volumes', 'rpc'].map((folder) => join(root, 'src', folder, name));
      t.true(places.some(existsSync), name);
    }
  }
});

test('docs/design.md draws every folder of volumes/ and of host/', (t) => {
  const [drawing = ''] = drawings('Layers');
  for (const layer of ['volumes', 'host']) {
    const folders = readdirSync(join(root, 'src', layer), { withFileTypes: true });
    for (const { name } of folders.filter((entry) => entry.isDirectory())) {
      t.true(drawing.includes(`${name}/`), `src/${layer}/${name}`);
    }
  }
});

test('docs/design.md states the effect of a crash at every fault point, and lists no other point', (t) => {
  const rows = page.split('\n').filter((line) => line.startsWith('| `'));
  const named = rows.flatMap((row) =>
    [...(row.split('|')[1] ?? '').matchAll(/`([^`]+)`/g)].map(([, name]) => name),
  );
  t.deepEqual(
    faultPoints.filter((point) => !named.includes(point)),
    [],
    'not described',
  );
  t.deepEqual(
    named.filter((name) => !faultPoints.some((point) => point === name)),
    [],
    'described, but not in the code',
  );
});
