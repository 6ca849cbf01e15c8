import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import test from 'ava';
import { reasons } from '../../src/errors.ts';
import { controllerMetricNames, metricNames } from '../helpers/metric-names.ts';
import * as rules from '../helpers/tidy-rules.ts';

const root = join(import.meta.dirname, '..', '..', '..');
const ignored = new Set(['.git', 'node_modules', 'dist', 'coverage', 'cache']);
const isText = /(?:\.(?:ts|json|jsonc|md|yaml|yml|sh|svg|proto|tpl|txt|service)|\/[^.]+|^[^./]+)$/;

/** Paths of all files of the repository that are text, generated ones included. */
function walk(directory: string): readonly string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    if (ignored.has(entry.name)) return [];
    const path = join(directory, entry.name);
    return entry.isDirectory() ? walk(path) : entry.isFile() ? [relative(root, path)] : [];
  });
}

const files = walk(root)
  .filter((path) => isText.test(path))
  .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));
const generated = /^src\/csi\/(?:\w+-)?(?:types|descriptor)\.ts$/;
/** Published files, which are not changed. */
const foreign = /\/crds\/[^/]+\.yaml$/;
const written = files.filter(({ path }) => !generated.test(path) && !foreign.test(path));
/** These two contain the words that they search for. */
const outsideTidy = written.filter(({ path }) => !/^test\/.*\/tidy[\w.-]*\.ts$/.test(path));

/** Modules that are started as programs. */
const entries = [
  'src/main.ts', // by bin/loopcsi
  'src/host/freeze/freeze-child.ts', // by client.ts
];

function clean(name: string, find: () => readonly string[]): void {
  test(name, (t) => {
    t.deepEqual(find(), []);
  });
}

test('the search finds the files of the repository', (t) => {
  for (const path of ['package.json', 'src/errors.ts', '.ci/run', 'README.md', 'docs/errors.md']) {
    t.true(
      files.some((file) => file.path === path),
      path,
    );
  }
});
clean('the environment is read in config/load.ts', () => rules.environmentReads(written));
clean('execa, koffi and child_process have one door each', () => rules.doorsPassed(written));
clean('every module is used', () => rules.orphans(files, entries));
clean('no callback ignores the domain with its lane', () => rules.droppedLanes(files));
clean('what is owed has an issue number', () => rules.openEnds(outsideTidy));
clean('modules are named after what they hold', () => rules.vagueNames(files));
clean('no trace of a machine or a package registry', () => rules.machineTraces(outsideTidy));
clean('no test is focused', () => rules.focusedTests(outsideTidy));
clean('tests that need the machine for themselves say why', () => rules.aloneWithoutReason(files));
clean('versions are exact', () => rules.looseVersions(files));
clean('docs/errors.md lists every reason', () =>
  rules.undocumented(reasons, page('docs/errors.md'), 'reason'),
);
clean('links of pages lead somewhere', () =>
  rules.deadLinks(files, new Set(files.map(({ path }) => path))),
);
clean('docs and code know the same metrics', () =>
  rules.undescribedMetrics(files, [...new Set([...metricNames, ...controllerMetricNames])]),
);

function page(path: string): rules.TreeFile {
  const found = files.find((file) => file.path === path);
  if (found === undefined) throw new Error(`${path} does not exist`);
  return found;
}
