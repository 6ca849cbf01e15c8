import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { attempt } from '../../../scripts/command.ts';
import { requireOneVersion, sectionOf } from '../../../scripts/release-notes.ts';

const root = join(import.meta.dirname, '..', '..', '..', '..');

const changelog = `# Changelog

## Unreleased

### Added

- Later.

## 1.10.0

- Ten.

## 1.1.0 (2026-12-01)

### Added

- One.
  More of one.

### Fixed

- Two.

## 1.0.0

`;

test('the text is the section of the version, up to the next one', (t) => {
  t.is(sectionOf(changelog, '1.1.0'), '### Added\n\n- One.\n  More of one.\n\n### Fixed\n\n- Two.');
  t.is(sectionOf(changelog, '1.10.0'), '- Ten.');
  t.is(sectionOf('## 2.0.0\n- All.\n', '2.0.0'), '- All.');
});

for (const [name, version] of [
  ['missing', '1.1'],
  ['empty', '1.0.0'],
] as const) {
  test(`a section that is ${name} stops the release`, (t) => {
    t.throws(() => sectionOf(changelog, version), {
      message: new RegExp(`no entries for ${version}: rename its section Unreleased`),
    });
  });
}

test('tag, package and chart must have one version', (t) => {
  const same = { tag: 'v1.2.3', package: '1.2.3', chart: '1.2.3', app: '1.2.3' };
  t.is(requireOneVersion(same), '1.2.3');
  t.is(
    requireOneVersion({
      tag: 'v2.0.0-rc.1',
      package: '2.0.0-rc.1',
      chart: '2.0.0-rc.1',
      app: '2.0.0-rc.1',
    }),
    '2.0.0-rc.1',
  );
  t.throws(() => requireOneVersion({ ...same, package: '1.2.2', app: '1.2.4' }), {
    message: /are not 1\.2\.3: package\.json \(1\.2\.2\), appVersion in .*Chart\.yaml \(1\.2\.4\)/,
  });
  for (const tag of ['1.2.3', 'v1.2', 'v1.2.3+x', 'vnext', '']) {
    t.throws(() => requireOneVersion({ ...same, tag }), { message: /is not v and a version/ }, tag);
  }
});

test('the script reads the files of the clone', async (t) => {
  const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
    version: string;
  };
  const script = join(root, 'dist/scripts/release-notes.js');
  const wrong = await attempt(process.execPath, [script, 'v99.0.0']);
  t.is(wrong.exitCode, 1);
  t.regex(
    wrong.stderr,
    /^release-notes: the tag is v99\.0\.0, but these are not 99\.0\.0: package\.json/,
  );
  const right = await attempt(process.execPath, [script, `v${manifest.version}`]);
  const hasSection = new RegExp(`^## ${manifest.version}\\b`, 'm').test(
    await readFile(join(root, 'CHANGELOG.md'), 'utf8'),
  );
  t.is(right.exitCode, hasSection ? 0 : 1, right.stderr);
});
