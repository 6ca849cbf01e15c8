/**
 * Prints the text of a release: `node dist/scripts/release-notes.js v0.1.0` prints the section of CHANGELOG.md for 0.1.0. Fails if
 * the tag, package.json and the chart do not have the same version, so that no release is made of a forgotten change.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as v from 'valibot';
import { parse } from 'yaml';

export interface Versions {
  readonly tag: string;
  readonly package: string;
  readonly chart: string;
  /** The version of the image that the chart uses. */
  readonly app: string;
}

/** Throws an error that names all disagreements. */
export function requireOneVersion(versions: Versions): string {
  const { tag } = versions;
  if (!/^v\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?$/.test(tag)) {
    throw new Error(
      `the tag '${tag}' is not v and a version, such as v1.2.3: delete it and set another`,
    );
  }
  const version = tag.slice(1);
  const places = {
    'package.json': versions.package,
    'version in charts/loopcsi/Chart.yaml': versions.chart,
    'appVersion in charts/loopcsi/Chart.yaml': versions.app,
  };
  const wrong = Object.entries(places).filter(([, found]) => found !== version);
  if (wrong.length === 0) return version;
  const list = wrong.map(([place, found]) => `${place} (${found})`).join(', ');
  throw new Error(
    `the tag is ${tag}, but these are not ${version}: ${list}; change them, commit, and set the tag again`,
  );
}

/** Returns the section of a version without its heading. Throws if there is none, or if it is empty. */
export function sectionOf(changelog: string, version: string): string {
  const lines = changelog.split('\n');
  const isHeading = (line: string): boolean => line.startsWith('## ');
  // The heading may continue with a date.
  const start = lines.findIndex((line) => isHeading(line) && line.split(/\s+/)[1] === version);
  const length = lines.slice(start + 1).findIndex(isHeading);
  const end = length === -1 ? undefined : start + 1 + length;
  const text =
    start === -1
      ? ''
      : lines
          .slice(start + 1, end)
          .join('\n')
          .trim();
  if (text !== '') return text;
  throw new Error(
    `CHANGELOG.md has no entries for ${version}: rename its section Unreleased to '## ${version}', commit, and set the tag again`,
  );
}

async function main(tag: string): Promise<void> {
  const root = join(import.meta.dirname, '..', '..');
  const read = (path: string): Promise<string> => readFile(join(root, path), 'utf8');
  const manifest: unknown = JSON.parse(await read('package.json'));
  const chart = v.parse(
    v.object({ version: v.string(), appVersion: v.string() }),
    parse(await read('charts/loopcsi/Chart.yaml')),
  );
  const version = requireOneVersion({
    tag,
    package: v.parse(v.object({ version: v.string() }), manifest).version,
    chart: chart.version,
    app: chart.appVersion,
  });
  process.stdout.write(`${sectionOf(await read('CHANGELOG.md'), version)}\n`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await main(process.argv[2] ?? '').catch((error: unknown) => {
    process.stderr.write(
      `release-notes: ${error instanceof Error ? error.message : String(error)}\n`,
    );
    process.exitCode = 1;
  });
}
