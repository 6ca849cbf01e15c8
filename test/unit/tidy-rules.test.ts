import test from 'ava';
import * as rules from '../helpers/tidy-rules.ts';

type Sample = readonly [path: string, text: string];
const tree = (...samples: readonly Sample[]) => samples.map(([path, text]) => ({ path, text }));

const cases: readonly {
  name: string;
  rule: (files: readonly rules.TreeFile[]) => readonly string[];
  bad: readonly Sample[];
  good: readonly Sample[];
}[] = [
  {
    name: 'environmentReads',
    rule: rules.environmentReads,
    bad: [['src/host/programs/run.ts', 'const path = process.env.PATH;']],
    good: [
      ['src/config/load.ts', 'read(process.env);'],
      ['src/host/programs/run.ts', '// process.env is not passed on\n * process.env'],
      ['scripts/x.ts', 'process.env'],
    ],
  },
  {
    name: 'doorsPassed: execa',
    rule: rules.doorsPassed,
    bad: [['src/volumes/create.ts', "import { execa } from 'execa';"]],
    good: [['src/host/programs/run.ts', "import { execa } from 'execa';"]],
  },
  {
    name: 'doorsPassed: koffi, imported while running',
    rule: rules.doorsPassed,
    bad: [['src/host/loop/devices.ts', "const koffi = await import('koffi');"]],
    good: [['src/host/kernel/calls.ts', "import koffi from 'koffi';"]],
  },
  {
    name: 'doorsPassed: child_process',
    rule: rules.doorsPassed,
    bad: [['src/cli/mount.ts', "import { spawn } from 'node:child_process';"]],
    good: [['src/host/freeze/freezer.ts', "import { spawn } from 'node:child_process';"]],
  },
  {
    name: 'orphans',
    rule: (files) => rules.orphans(files, ['src/main.ts']),
    bad: [
      ['src/main.ts', ''],
      ['src/volumes/lonely.ts', ''],
      ['test/unit/lonely.test.ts', "import '../../src/volumes/lonely.ts';"],
    ],
    good: [
      ['src/main.ts', "import { a } from './volumes/a.ts';"],
      ['src/volumes/a.ts', "fork(new URL('../host/child.js', import.meta.url));"],
      ['src/host/child.ts', ''],
    ],
  },
  {
    name: 'droppedLanes',
    rule: rules.droppedLanes,
    bad: [
      [
        'src/volumes/node/a.ts',
        'return recoverVolume(domain, pool, image.id, async () => {\n  await work(domain);\n});',
      ],
    ],
    good: [
      ['src/volumes/node/a.ts', 'recoverVolume(domain, pool, image.id, async (domain) => 1);'],
      ['src/volumes/node/b.ts', 'recoverVolume(domain, pool, image.id, work); later(() => 1);'],
      [
        'src/volumes/volume/a.ts',
        'withReason(domain, about, (_domain) => pool.space.reserve(1n));',
      ],
      ['src/volumes/volume/b.ts', 'export async function withReason(work: () => Promise<void>) {}'],
    ],
  },
  {
    name: 'droppedLanes: an operation',
    rule: rules.droppedLanes,
    bad: [
      [
        'src/volumes/a.ts',
        'domain.operations.run(\n  domain,\n  call,\n  { name },\n  () => 1,\n);',
      ],
    ],
    good: [['src/volumes/a.ts', 'domain.operations.run(domain, call, { name }, (domain) => 1);']],
  },
  {
    name: 'openEnds: FIXME',
    rule: rules.openEnds,
    bad: [['src/a.ts', '// FIXME: later']],
    good: [['src/a.ts', '// fixed']],
  },
  {
    name: 'openEnds: TODO',
    rule: rules.openEnds,
    bad: [['src/a.ts', '// TODO: later']],
    good: [['src/a.ts', '// TODO #12: later\n// TODO(#12)']],
  },
  {
    name: 'vagueNames: a file',
    rule: rules.vagueNames,
    bad: [['src/host/path-utils.ts', '']],
    good: [
      ['src/host/commonmark.ts', ''],
      ['test/helpers/pool.ts', ''],
    ],
  },
  {
    name: 'vagueNames: a folder',
    rule: rules.vagueNames,
    bad: [['src/common/a.ts', '']],
    good: [['src/host/utilities-of-xfs.ts', '']],
  },
  {
    name: "machineTraces: a developer's path",
    rule: rules.machineTraces,
    bad: [['docs/a.md', `see ${'/home'}/ada/notes`]],
    good: [['docs/a.md', 'a directory of /var/lib/kubelet, the home/office']],
  },
  {
    name: 'machineTraces: a registry in the lockfile',
    rule: rules.machineTraces,
    bad: [['package-lock.json', `      "resolved${'":'} "https://example.org/a.tgz",`]],
    good: [['package-lock.json', '      "integrity": "sha512-…",']],
  },
  {
    name: 'focusedTests',
    rule: rules.focusedTests,
    bad: [['test/unit/a.test.ts', `test.serial${'.only'}('x', run);`]],
    good: [['test/unit/a.test.ts', "test.serial('only x', run);"]],
  },
  {
    name: 'looseVersions',
    rule: rules.looseVersions,
    bad: [['package.json', '{\n  "dependencies": {\n    "koffi": "^3.3.4"\n  }\n}']],
    good: [
      [
        'package.json',
        '{\n  "dependencies": {\n    "koffi": "3.3.4"\n  },\n  "engines": {\n    "node": ">=20.19"\n  }\n}',
      ],
    ],
  },
  {
    name: 'undocumented: the page lacks one',
    rule: ([page]) => rules.undocumented(['busy', 'no-space'], page ?? missing(), 'reason'),
    bad: [['docs/errors.md', '### `busy`\n\nSee `no-space`.']],
    good: [['docs/errors.md', '### `busy`\n\n### `no-space`']],
  },
  {
    name: 'undocumented: the code lacks one',
    rule: ([page]) => rules.undocumented(['pool'], page ?? missing(), 'parameter'),
    bad: [['docs/parameters.md', '| Key | |\n|---|---|\n| `pool` | x |\n| `gone` | x |']],
    good: [['docs/parameters.md', '| Key | |\n|---|---|\n| `pool` | `thin` |']],
  },
  {
    name: 'undescribedMetrics: not in docs',
    rule: (files) =>
      rules.undescribedMetrics(files, ['loopcsi_calls_total', 'loopcsi_call_seconds']),
    bad: [['docs/operations.md', '`loopcsi_calls_total`, loopcsi_call_seconds']],
    good: [['docs/operations.md', '`loopcsi_calls_total{rpc}`, `loopcsi_call_seconds_bucket`']],
  },
  {
    name: 'undescribedMetrics: not made',
    rule: (files) => rules.undescribedMetrics(files, []),
    bad: [['docs/operations.md', '| `loopcsi_gone` | x |']],
    good: [['docs/operations.md', 'loopcsi_prose']],
  },
  {
    name: 'aloneWithoutReason',
    rule: (files) => rules.aloneWithoutReason(files),
    bad: [['test/integration/alone/a.test.ts', '/** Tests a. */\n// Alone: no.']],
    good: [
      ['test/integration/alone/host/b.test.ts', '/**\n * Tests b. Alone: it counts devices.\n */'],
      ['test/integration/c.test.ts', ''],
    ],
  },
  {
    name: 'deadLinks',
    rule: (files) => rules.deadLinks(files, new Set(files.map(({ path }) => path))),
    bad: [['docs/a.md', 'see [b](b.md)']],
    good: [
      ['docs/a.md', '[b](../README.md#top), [c](https://example.org/x), [d](.), [e](#e)'],
      ['README.md', '[docs](docs)'],
    ],
  },
];

function missing(): never {
  throw new Error('the sample has no page');
}

for (const { name, rule, bad, good } of cases) {
  test(`${name}: the rule finds the bad sample, once`, (t) => {
    t.is(rule(tree(...bad)).length, 1);
  });
  test(`${name}: the rule accepts the good sample`, (t) => {
    t.deepEqual(rule(tree(...good)), []);
  });
}
