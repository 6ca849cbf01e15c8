/** Rules for the workflows in .github that a linter does not know. test/chart/workflows.test.ts runs the linter. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import * as v from 'valibot';
import { parse } from 'yaml';

const root = join(import.meta.dirname, '..', '..', '..');
const directory = join(root, '.github', 'workflows');

const workflow = v.looseObject({
  permissions: v.record(v.string(), v.string()),
  jobs: v.record(
    v.string(),
    v.looseObject({
      permissions: v.record(v.string(), v.picklist(['read', 'write'])),
      'timeout-minutes': v.number(),
      needs: v.optional(v.union([v.string(), v.array(v.string())]), []),
      strategy: v.optional(v.looseObject({ matrix: v.looseObject({}) })),
      steps: v.array(v.looseObject({ uses: v.optional(v.string()), run: v.optional(v.string()) })),
    }),
  ),
});

const workflows = await Promise.all(
  (await readdir(directory)).sort().map(async (file) => {
    const text = await readFile(join(directory, file), 'utf8');
    return { file, text, ...v.parse(workflow, parse(text)) };
  }),
);

const jobOf = (file: string, name: string): v.InferOutput<typeof workflow>['jobs'][string] => {
  const job = workflows.find((one) => one.file === file)?.jobs[name];
  if (job === undefined) throw new Error(`${file} has no job ${name}`);
  return job;
};

test('actions are pinned by commit, with their version as a comment', (t) => {
  for (const { file, text } of workflows) {
    const uses = text.split('\n').filter((line) => /^\s*(?:- )?uses:/.test(line));
    t.true(uses.length > 0);
    for (const line of uses) t.regex(line, /uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/, file);
  }
});

test('a workflow has no permissions, and each job only those that it needs', (t) => {
  const needed: Readonly<Record<string, object>> = {
    'ci.yml part': { contents: 'read' },
    'release.yml draft': { contents: 'write' },
    'release.yml build': { contents: 'read', packages: 'write' },
    'release.yml image': { packages: 'write', 'id-token': 'write' },
    'release.yml chart': { contents: 'read', packages: 'write', 'id-token': 'write' },
    'release.yml packages': { contents: 'write', 'id-token': 'write' },
    'release.yml krew': { contents: 'write', 'id-token': 'write' },
    'release.yml publish': { contents: 'write' },
  };
  const found = workflows.flatMap(({ file, permissions, jobs }) => {
    t.deepEqual(permissions, {}, file);
    return Object.entries(jobs).map(([job, { permissions: own }]) => [`${file} ${job}`, own]);
  });
  t.deepEqual(Object.fromEntries(found), needed);
});

test('no expression is put into a script, where a name could be read as a command', (t) => {
  for (const { file, jobs } of workflows) {
    for (const { steps } of Object.values(jobs)) {
      for (const { run } of steps) t.false(run?.includes('${{') ?? false, file);
    }
  }
});

test('CI runs every part of .ci/run', async (t) => {
  const script = await readFile(join(root, '.ci/run'), 'utf8');
  const [, list = ''] = /^parts=\(\n([^]*?)^\)$/m.exec(script) ?? [];
  const parts = [...list.matchAll(/^ *'(\S+) *\| *(\d+) /gm)];
  t.true(parts.length >= 7);
  const job = jobOf('ci.yml', 'part');
  t.deepEqual(
    job.strategy?.matrix['part'],
    parts.map(([, name]) => name),
  );
  // Longer than every part, which ends itself at its own limit; the setup takes time too.
  const longest = Math.max(...parts.map(([, , minutes]) => Number(minutes)));
  t.true(job['timeout-minutes'] > longest + 20);
});

test('a release is published last, and its image is the one that the chart uses', async (t) => {
  const release = workflows.find(({ file }) => file === 'release.yml');
  const { publish: last, ...others } = release?.jobs ?? {};
  const reached = new Set<string>();
  const reach = (needs: string | readonly string[]): void => {
    for (const name of [needs].flat()) {
      reached.add(name);
      reach(others[name]?.needs ?? []);
    }
  };
  reach(last?.needs ?? []);
  t.deepEqual([...reached].sort(), Object.keys(others).sort());
  const values = await readFile(join(root, 'charts/loopcsi/values.yaml'), 'utf8');
  t.regex(values, /registry: ghcr\.io\n {2}repository: loopcsi\/loopcsi\n/);
  const build = jobOf('release.yml', 'build')
    .steps.map(({ run }) => run ?? '')
    .join('\n');
  t.regex(build, /--sbom=true --provenance=mode=max/);
  t.regex(build, /--build-arg "VERSION=\$VERSION" --build-arg "REVISION=/);
});
